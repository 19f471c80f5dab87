"""Exercises of chapter 05, Fine-tune a ResNet on real tumours."""

import numpy as np
import torch

from .functions import Function, Wrong
from .kinds import Letters
from .reading import plain

# ---- 5.1: convolutions frozen; scale and shift learn slowly, the head at the full rate ----


def norms_of(model):
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]


def scale_and_shift(model):
    return [p for layer in norms_of(model) for p in layer.parameters()]


def hold_still(layer, inputs):
    layer.eval()


def prepare(model):
    """Scale, shift and the head learn; the statistics stay, whatever model.train() says."""
    model.requires_grad_(False)
    for layer in (*norms_of(model), model.fc):
        layer.requires_grad_(True)
    for layer in norms_of(model):
        layer.register_forward_pre_hook(hold_still)


def groups_of(model, slow, fast):
    head = list(model.fc.parameters())
    return [{"params": scale_and_shift(model), "lr": slow}, {"params": head, "lr": fast}]


def freeze_convolutions(model, lr):
    prepare(model)
    return groups_of(model, lr / 10, lr)


def open_convolutions(model, lr):
    prepare(model)
    model.requires_grad_(True)
    return groups_of(model, lr / 10, lr)


def freeze_all_but_head(model, lr):
    prepare(model)
    for parameter in scale_and_shift(model):
        parameter.requires_grad_(False)
    return groups_of(model, lr / 10, lr)


def freeze_head(model, lr):
    prepare(model)
    model.fc.requires_grad_(False)
    return groups_of(model, lr / 10, lr)


def move_statistics(model, lr):
    model.requires_grad_(False)
    for layer in (*norms_of(model), model.fc):
        layer.requires_grad_(True)
    return groups_of(model, lr / 10, lr)


def swap_rates(model, lr):
    prepare(model)
    return groups_of(model, lr, lr / 10)


def one_rate(model, lr):
    prepare(model)
    return groups_of(model, lr, lr)


def forget_norms(model, lr):
    prepare(model)
    return groups_of(model, lr / 10, lr)[1:]


def forget_head(model, lr):
    prepare(model)
    return groups_of(model, lr / 10, lr)[:1]


def half_the_rate(model, lr):
    prepare(model)
    return groups_of(model, lr / 2, lr)


def one_resnet():
    """A ResNet with one block a layer, which is built faster than a ResNet-18; and a rate."""
    from torchvision.models.resnet import BasicBlock, ResNet

    with torch.random.fork_rng(devices=[]):  # the learner's own random numbers stay as they were
        torch.manual_seed(0)
        return [(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=2), 0.002)]


def rate_of(groups, parameters, lr):
    """The rate of these parameters as a share of `lr`: 0 in no group, -1 where it differs."""
    rates = {id(p): float(g["lr"]) / lr for g in groups for p in g["params"]}
    found = {round(rates.get(id(p), 0.0), 6) for p in parameters}
    return found.pop() if len(found) == 1 else -1.0


def what_learns(returned, model, lr):
    """(flags: a convolution, every scale and shift, the head, statistics moved; two rates)."""
    shape = lambda g: isinstance(g, dict) and "lr" in g and isinstance(g.get("params"), list)
    if not isinstance(returned, (list, tuple)) or not returned or not all(map(shape, returned)):
        return None
    own = {id(p) for p in (*scale_and_shift(model), *model.fc.parameters())}
    weights = any(p.requires_grad for p in model.parameters() if id(p) not in own)
    scales = all(p.requires_grad for p in scale_and_shift(model))
    head = all(p.requires_grad for p in model.fc.parameters())
    before = [layer.running_mean.clone() for layer in norms_of(model)]
    with torch.no_grad():
        model.train()(torch.linspace(-2, 2, 12288).sin().view(4, 3, 32, 32))
    pairs = zip(before, norms_of(model))
    moved = any(not torch.equal(old, layer.running_mean) for old, layer in pairs)
    rates = [rate_of(returned, p, lr) for p in (scale_and_shift(model), model.fc.parameters())]
    return plain((np.array([weights, scales, head, moved], dtype=float), np.array(rates)))


def flag(place: int, value: float):
    return lambda attempt: attempt.got[0][place] == value


def rates(slow: float, fast: float):
    return lambda attempt: np.allclose(attempt.got[1], (slow, fast))


SCALE_AND_SHIFT = Function(
    hint="freeze all, then open two things again: BatchNorm's parameters and the head. What moves "
    "without a gradient?",
    hints=(
        'mt.freeze(model, through="layer4", batchnorm="eval") does the first two parts. Then '
        "return two dicts with params and lr: all parameters of BatchNorm layers, and the head.",
    ),
    right=freeze_convolutions,
    cases=one_resnet,
    form='return a list of dicts, such as [{"params": [...], "lr": 0.001}]',
    observe=what_learns,
    wrong=(
        Wrong(
            open_convolutions,
            "a convolution still learns: freeze all shared layers, then open scale and shift.",
            when=flag(0, 1),
        ),
        Wrong(
            freeze_all_but_head,
            'scale and shift do not learn: that is the mode "frozen", and "eval" is asked for.',
            when=flag(1, 0),
        ),
        Wrong(freeze_head, "the head does not learn: open `fc` again.", when=flag(2, 0)),
        Wrong(
            move_statistics,
            "after model.train() the stored statistics moved: requires_grad or a single eval() "
            "does not hold them.",
            when=flag(3, 1),
        ),
        Wrong(
            forget_norms,
            "scale and shift are in no group: the optimizer never sees them.",
            when=lambda attempt: attempt.got[1][0] == 0,
        ),
        Wrong(
            forget_head,
            "the head is in no group: the optimizer never sees it.",
            when=lambda attempt: attempt.got[1][1] == 0,
        ),
        Wrong(swap_rates, "the two rates are swapped.", when=rates(1, 0.1)),
        Wrong(
            one_rate,
            "both have the full rate: scale and shift get a tenth of it.",
            when=rates(1, 1),
        ),
    ),
    other=Wrong(
        half_the_rate,
        "other rates are expected: lr / 10 for all scales and shifts, lr for the head.",
    ),
)

# ---- 5.2: a learning rate, chosen by grouped cross-validation ----


def auc(score, malignant):
    above = score[malignant][:, None] - score[~malignant]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def of_folds(score, malignant, fold):
    return [auc(score[fold == k], malignant[fold == k]) for k in np.unique(fold)]


def best_of(value, scores):
    """(rate, value) with the highest value."""
    values = {rate: value(score) for rate, score in scores.items()}
    best = max(values, key=values.get)
    return best, values[best]


def choose_rate(scores, malignant, fold):
    return best_of(lambda score: np.mean(of_folds(score, malignant, fold)), scores)


def pooled(scores, malignant, fold):
    return best_of(lambda score: auc(score, malignant), scores)


def best_fold(scores, malignant, fold):
    return best_of(lambda score: max(of_folds(score, malignant, fold)), scores)


def worst_fold(scores, malignant, fold):
    return best_of(lambda score: min(of_folds(score, malignant, fold)), scores)


def accuracy(scores, malignant, fold):
    return best_of(lambda score: ((score >= 0.5) == malignant).mean(), scores)


def lowest(scores, malignant, fold):
    rate, value = best_of(lambda s: -np.mean(of_folds(s, malignant, fold)), scores)
    return rate, -value


def rate_then_pooled(scores, malignant, fold):
    rate = choose_rate(scores, malignant, fold)[0]
    return rate, auc(scores[rate], malignant)


def healthy_positive(scores, malignant, fold):
    return choose_rate(scores, ~malignant, fold)


def swapped(scores, malignant, fold):
    return choose_rate(scores, malignant, fold)[::-1]


def three_rates():
    """(scores, malignant, fold): networks of different folds use different parts of the scale."""
    cases = []
    for seed, n in ((11, 30), (12, 24)):
        rng = np.random.default_rng(seed)
        malignant, fold = np.arange(n) % 3 == 0, np.arange(n) // 3 % 3
        shift = np.array([0.05, 0.35, 0.6])[fold]  # high scores in one fold, low ones in another
        noise = lambda size, rng=rng, n=n: size * rng.random(n)
        scores = {
            0.003: np.clip(0.30 + 0.10 * malignant + noise(0.5), 0, 1),
            0.001: np.clip(shift + 0.14 * malignant + noise(0.2), 0, 1),
            0.0001: np.clip(0.35 + 0.17 * malignant + noise(0.3), 0, 1),
        }
        cases.append((scores, malignant, fold))
    return cases


RATE = Function(
    hint="which scores may be compared with each other: those of one network, or those of all?",
    hints=(
        "for each rate: take the images of one fold, compute their AUC, do so for every fold, and "
        "take the mean. Then compare the means of the rates.",
    ),
    right=choose_rate,
    cases=three_rates,
    form="return two numbers, the best rate and its cross-validated AUC",
    wrong=(
        Wrong(
            pooled,
            "that pools the scores of all folds, but each fold had a network of its own, with a "
            "scale of its own: one AUC per fold, then the mean.",
        ),
        Wrong(
            rate_then_pooled, "the rate is right, but its AUC is pooled: take the mean of folds."
        ),
        Wrong(best_fold, "that is the best single fold, which luck favours: take the mean."),
        Wrong(worst_fold, "that compares the worst folds: take the mean over folds."),
        Wrong(accuracy, "that is the accuracy at 0.5: the AUC needs no threshold."),
        Wrong(lowest, "that is the rate with the lowest AUC."),
        Wrong(
            healthy_positive,
            "the classes are swapped: a malignant image should score higher than another one.",
        ),
        Wrong(swapped, "the rate comes first, then its AUC."),
    ),
    other=Wrong(
        lambda scores, malignant, fold: (0.001, 0.5),
        "another rate or another AUC is expected: the mean over folds, highest of all rates.",
    ),
)

EXERCISES = {
    "5.1": SCALE_AND_SHIFT,
    "5.2": RATE,
    "5.3": Letters(
        hint="ask of each line: has it seen images that are validation images later?",
        hints=(
            "a mean over all images, a copy made before the split, and a split that parts groups "
            "all mix the two sides. And a number that was chosen to be good is no result.",
        ),
        right="bcdi",
        wrong={
            "a": "a may stay: reading the files decides nothing.",
            "b": "b leaks: the mean image is made of validation images, too. Use training images.",
            "c": "c leaks: an image and its mirrored copy can part. Split first, then mirror.",
            "d": "d leaks: each image is a group of its own, so near-copies are parted.",
            "e": "e may stay: the source was trained on simulated images alone.",
            "f": "f may stay: these weights use training labels alone.",
            "g": "g may stay: the fit uses the training part alone.",
            "h": "h may stay: validation images are there for choices.",
            "i": "i reports on the images that chose the threshold: use others.",
        },
    ),
    "5.4": Letters(
        hint="count on each side: how many recipes, how many updates? What was drawn again for the "
        "interval?",
        hints=(
            "eight recipes against one, 1,200 updates against 400, chosen by test AUC, and only "
            "the seeds were repeated.",
        ),
        right="aceg",
        wrong={
            "a": "a is right: eight recipes on one side, one on the other.",
            "b": "b is wrong: only seeds were repeated; the test images were the same each time.",
            "c": "c is right: the best of eight test AUCs was taken.",
            "d": "d is wrong: without patient numbers nobody can know.",
            "e": "e is right: transfer took three times the updates.",
            "f": "f is wrong: one source, trained once, was used.",
            "g": "g is right: the interval covers seeds, not images.",
        },
    ),
}
