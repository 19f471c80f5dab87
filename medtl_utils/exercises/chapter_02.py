"""Exercises of chapter 02, Shared and specific layers."""

import operator

import numpy as np
import torch
from torch.nn import functional as F

from .functions import Function, Wrong
from .kinds import Number, WholeNumber

# ---- 2.2: freeze as little as a number of parameters allows ----

BLOCKS = ("stem", "layer1", "layer2", "layer3", "layer4")
PARTS = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")  # of a ResNet


def weights_that_learn(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def to_evaluation(layer, inputs):
    layer.eval()


def hold(layer):
    """Keep a BatchNorm in evaluation mode, whatever `model.train()` says afterwards."""
    layer.register_forward_pre_hook(to_evaluation)


def freeze_block(model, block, statistics):
    for part in ("conv1", "bn1") if block == "stem" else (block,):
        child = getattr(model, part)
        child.requires_grad_(False)
        for layer in child.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                statistics(layer)


def freezing(order=BLOCKS, statistics=hold, fits=operator.le):
    """Freeze in this order until the parameters that learn fit the budget."""

    def answer(model, budget):
        for block in order:
            if fits(weights_that_learn(model), budget):
                break
            freeze_block(model, block, statistics)

    return answer


freeze_to_budget = freezing()


def freeze_half_the_stem(model, budget):
    freeze_to_budget(model, budget)
    model.bn1.requires_grad_(True)


def freeze_weights_and_eval(model, budget):
    freezing(statistics=lambda layer: None)(model, budget)
    model.eval()


def hold_all_statistics(model, budget):
    freeze_to_budget(model, budget)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            hold(layer)


def one_resnet():
    """A ResNet with one block a layer, which is built faster than a ResNet-18."""
    from torchvision.models.resnet import BasicBlock, ResNet

    with torch.random.fork_rng(devices=[]):  # the learner's own random numbers stay as they were
        torch.manual_seed(0)
        return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=2)


def models_and_budgets():
    """(model, budget): layer4 and the head fit, to the last parameter; a little less; all fits."""
    layer4_and_head = [*one_resnet().layer4.parameters(), *one_resnet().fc.parameters()]
    n = sum(p.numel() for p in layer4_and_head)
    budgets = (n, n - 1, 5_000_000)
    return [(one_resnet(), budget) for budget in budgets]


def what_can_change(returned, model, budget):
    """(learns, statistics moved, stored ones used), each 0 or 1 for conv1, bn1, layer1, ..., fc.

    The function may change the model that it gets, or return another one.
    """
    model = returned if isinstance(returned, torch.nn.Module) else model
    learns, moves, stored = np.zeros(7), np.zeros(7), np.ones(7)
    for name, parameter in model.named_parameters():
        learns[PARTS.index(name.split(".")[0])] += parameter.requires_grad
    seen, handles = {}, []
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            keep = lambda layer, x, y, name=name: seen.update({name: (x[0].clone(), y.clone())})
            handles.append(layer.register_forward_hook(keep))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        model.train()(torch.linspace(-2, 2, 12288).sin().view(4, 3, 32, 32))
        for name, (x, y) in seen.items():
            mean, var = before[f"{name}.running_mean"], before[f"{name}.running_var"]
            layer, place = model.get_submodule(name), PARTS.index(name.split(".")[0])
            by_stored = F.batch_norm(x, mean, var, layer.weight, layer.bias, eps=layer.eps)
            moves[place] = moves[place] or not torch.equal(layer.running_mean, mean)
            stored[place] = stored[place] and torch.allclose(y, by_stored, atol=1e-4)
    for handle in handles:
        handle.remove()
    return np.minimum(learns, 1), moves, stored


def more(place):
    return lambda attempt: (attempt.got[place] > attempt.want[place]).any()


def less(place):
    return lambda attempt: (attempt.got[place] < attempt.want[place]).any()


BUDGET = Function(
    hint="freeze block after block, from the stem on, and count after each what still learns.",
    hints=(
        "for through in BLOCKS: leave the loop as soon as the parameters with requires_grad are "
        "at most `budget`; else call freeze(model, through), which holds the statistics too.",
    ),
    right=freeze_to_budget,
    cases=models_and_budgets,
    observe=what_can_change,
    wrong=(
        Wrong(
            lambda model, budget: model.requires_grad_(False),
            "the head is frozen too, so nothing can learn: leave `fc` alone.",
            when=lambda attempt: attempt.got[0][-1] == 0,
        ),
        Wrong(
            freeze_half_the_stem,
            "conv1 and bn1 are both the stem: freeze them together.",
            when=lambda attempt: attempt.got[0][0] != attempt.got[0][1],
        ),
        Wrong(
            freezing(order=BLOCKS[::-1]),
            "blocks near the head are frozen while the stem learns: freeze from the stem on.",
            when=lambda attempt: more(0)(attempt) and less(0)(attempt),
        ),
        Wrong(
            freezing(order=BLOCKS[:-1]),
            "more than `budget` parameters learn: freeze one more block, layer4 if need be.",
            when=more(0),
        ),
        Wrong(
            freezing(fits=operator.lt),
            "a block is frozen that could learn: stop when `budget` or fewer parameters learn.",
            when=less(0),
        ),
        Wrong(
            freeze_weights_and_eval,
            "after model.train() the statistics of a frozen block moved: requires_grad or a single "
            "eval() does not hold them.",
            when=more(1),
        ),
        Wrong(
            hold_all_statistics,
            "the statistics of a block that learns are held too: hold those of frozen blocks only.",
            when=less(1),
        ),
    ),
    other=Wrong(
        freezing(statistics=lambda layer: setattr(layer, "momentum", 0.0)),
        "in training mode a frozen BatchNorm still normalises by the batch: it should use its "
        "stored statistics.",
    ),
)

# ---- 2.3: a mean error where some images have no size ----


def error_of_those_with_a_size(z, mean, sd, size):
    """Mean absolute error of standardised predictions z (N, 1), where size (N,) is no nan."""
    there = ~size.isnan()
    return (z[there, 0] * sd + mean - size[there]).abs().mean()


def two_batches():
    """(z, mean, sd, size): errors of both signs, images without a lesion."""
    z = torch.tensor([[0.5], [-1.0], [2.0], [0.1], [-0.4]])
    size = torch.tensor([40.0, float("nan"), 60.0, 35.0, 28.0])
    return [(z, 33.0, 18.0, size), (z.flip(0), 30.0, 12.5, size.clone())]


def with_zeros(z, mean, sd, size):
    return (z[:, 0] * sd + mean - size.nan_to_num(0)).abs().mean()


def over_all_images(z, mean, sd, size):
    there = ~size.isnan()
    return error_of_those_with_a_size(z, mean, sd, size) * there.sum() / len(size)


def on_those(error):
    """A mistake that is made on the images with a size alone."""

    def answer(z, mean, sd, size):
        there = ~size.isnan()
        return error(z[there], mean, sd, size[there])

    return answer


STANDARDISED = "z is still in standard deviations: undo the standardisation, z[:, 0] * sd + mean."

MEAN_ERROR = Function(
    hint="an image without a lesion has no true size. What is its error, and should it count?",
    hints=(
        "there = ~size.isnan() marks the images that count. Take column 0 of z, undo the "
        "standardisation, and take the mean of the absolute differences there.",
    ),
    right=error_of_those_with_a_size,
    cases=two_batches,
    form="return one number, the mean absolute error in per cent of the width",
    wrong=(
        Wrong(
            lambda z, mean, sd, size: (z[:, 0] * sd + mean - size).abs().mean(),
            "the result is nan: an image without a size must be left out before the mean.",
            when=lambda attempt: np.isnan(attempt.got).all(),
        ),
        Wrong(with_zeros, "images without a lesion were counted as lesions of size 0."),
        Wrong(over_all_images, "the sum is right, but divide by the number of images with a size."),
        Wrong(on_those(lambda z, mean, sd, size: (z[:, 0] - size).abs().mean()), STANDARDISED),
        Wrong(
            on_those(lambda z, mean, sd, size: (z * sd + mean - size).abs().mean()),
            "(4, 1) minus (4,) makes a table of 16 differences: take the column z[:, 0] first.",
        ),
        Wrong(
            on_those(lambda z, mean, sd, size: (z[:, 0] * sd + mean - size).square().mean()),
            "those are squares: take the absolute value.",
        ),
        Wrong(
            on_those(lambda z, mean, sd, size: (z[:, 0] * sd + mean - size).square().mean().sqrt()),
            "that is the root mean square error, which counts large errors more.",
        ),
        Wrong(
            on_those(lambda z, mean, sd, size: (z[:, 0] * sd + mean - size).mean()),
            "errors of opposite sign cancel: the absolute value is missing.",
        ),
        Wrong(
            on_those(lambda z, mean, sd, size: (z[:, 0] - (size - mean) / sd).abs().mean()),
            "that error is in standard deviations: multiply by sd.",
        ),
    ),
    other=Wrong(
        on_those(lambda z, mean, sd, size: (z[:, 0] * sd - size).abs().mean()),
        "another number is expected. Is the mean in it?",
    ),
)

EXERCISES = {
    "2.1": WholeNumber(
        hint="how many channels do all BatchNorms have together? Each channel has two numbers that "
        "learn.",
        hints=(
            "sum p.numel() over the parameters of all nn.BatchNorm2d layers in model.modules(), "
            "then add the new head: 512 weights and a bias per class.",
        ),
        right=11_139,
        wrong={
            9_600: "those are scales and shifts alone: the new head learns too.",
            1_539: "that is the head alone: scales and shifts learn too.",
            6_339: "that is one number per channel: scale and shift are two.",
            20_739: "running means and variances are counted too: no gradient reaches buffers.",
            10_626: "that head is for two classes: here there are three.",
            11_136: "the three biases of the head are missing.",
            9_347: "the BatchNorms in the three shortcuts (downsample) are missing.",
            11_178_051: "that is the whole network: the convolutions are frozen.",
        },
    ),
    "2.2": BUDGET,
    "2.3": MEAN_ERROR,
    "2.4": Number(
        hint="each batch moves the running mean a tenth of the way that is left. How much of the "
        "way is left after ten batches?",
        hints=("the distance to 0.20 is 0.60 at first, and 0.9 times as long after each batch.",),
        right=0.409,
        wrong={
            0.2: "it comes nearer with each batch, but a tenth of the way that is left, each time.",
            0.8: "it stays there only if it is held: here BatchNorm is in training mode.",
            0.74: "that is after one batch: there are ten.",
            0.591: "the distance that is left is counted upwards from 0.20, not down from 0.80.",
            0.209: "that is the distance that is left: add it to 0.20.",
            0.391: "that is how far it has moved: where is it now?",
            0.279: "that is the way to 0: the batches have the mean 0.20.",
            0.26: "that is one batch with the two factors exchanged: a tenth is new.",
            0.432: "that is after nine batches.",
        },
    ),
}
