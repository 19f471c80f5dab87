"""Exercise 5.1: convolutions frozen; scale and shift learn slowly, the head at the full rate."""

import numpy as np
import torch

from .functions import Function, Wrong
from .reading import plain


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
