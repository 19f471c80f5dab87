"""Exercises of chapter 02, Shared and specific layers."""

import numpy as np
import torch

from .functions import Function, Wrong
from .kinds import WholeNumber

TRUNK = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


# ---- 2.2: freezing the trunk ----


def freeze_trunk(model):
    """Leave only the head `fc` able to change, whatever `model.train()` says afterwards."""
    for name, child in model.named_children():
        if name != "fc":
            child.requires_grad_(False)
            for layer in child.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.register_forward_pre_hook(hold_still)


def hold_still(layer, inputs):
    layer.eval()


def freeze_weights(model):
    model.requires_grad_(False)
    model.fc.requires_grad_(True)


def freeze_weights_and_eval(model):
    freeze_weights(model)
    model.eval()


def freeze_without_momentum(model):
    freeze_weights(model)
    for layer in model.modules():
        layer.momentum = 0.0


def freeze_all_but(block):
    def answer(model):
        freeze_trunk(model)
        getattr(model, block).requires_grad_(True)

    return answer


def one_resnet():
    """A ResNet with one block a layer, which is built faster than a ResNet-18."""
    from torchvision.models.resnet import BasicBlock, ResNet

    with torch.random.fork_rng(devices=[]):  # the learner's own random numbers stay as they were
        torch.manual_seed(0)
        return [(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=2),)]


def what_can_change(returned, model):
    """(flags: the blocks of the trunk and the head are free, statistics moved, stored ones used).

    The function may change the model that it gets, or return another one.
    """
    model = returned if isinstance(returned, torch.nn.Module) else model
    images = torch.linspace(-2, 2, 12288).sin().view(4, 3, 32, 32)
    free = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    flags = np.array([float(name in free) for name in (*TRUNK, "fc")])
    if free - {*TRUNK, "fc"}:
        flags[0] = 1.0  # a block that a ResNet does not have: the trunk is not frozen
    with torch.no_grad():
        statistics = {n: b.clone() for n, b in model.train().named_buffers() if "running" in n}
        trained, after = model(images), dict(model.named_buffers())
        moved = any(not torch.equal(b, after[name]) for name, b in statistics.items())
        stored = torch.allclose(trained, model.eval()(images), atol=1e-4)
    return flags, np.array(float(moved)), np.array(float(stored))


def free_block(block):
    return Wrong(
        freeze_all_but(block),
        f"weights that can still move: {block}. The trunk is everything but the head.",
        when=lambda attempt: attempt.got[0][TRUNK.index(block)] == 1,
    )


# ---- 2.3: a mean error in millimetres ----


def error_in_mm(z, mean, sd, size_mm):
    """Mean absolute error of standardised predictions z, shape (N, 1), in mm."""
    return (z[:, 0] * sd + mean - size_mm).abs().mean()


def two_batches():
    """(z, mean, sd, size_mm): errors of both signs."""
    z, sizes = torch.tensor([[0.5], [-1.0], [2.0], [0.1]]), torch.tensor([15.0, 9.0, 20.0, 16.0])
    return [(z, 13.0, 4.0, sizes), (z.flip(0), 11.0, 2.5, sizes.clone())]


STANDARDISED = "z is still in standard deviations: undo the standardisation, z[:, 0] * sd + mean."
SMALLER_K = "a smaller k already has an interval without zero."

EXERCISES = {
    "2.1": WholeNumber(
        hint="C_out * C_in * 3 * 3 for the convolution, and scale and shift for each channel of "
        "BatchNorm.",
        right=73_984,
        wrong={
            73_728: "BatchNorm's scale and shift are missing: two for each of its 128 channels.",
            74_112: "the convolution has no bias here: BatchNorm's shift does its work.",
            74_240: "running mean and variance are buffers, not parameters: "
            "no gradient reaches them.",
        },
    ),
    "2.2": Function(
        hint="write a function that takes a ResNet and leaves only its head `fc` able to change.",
        right=freeze_trunk,
        cases=one_resnet,
        observe=what_can_change,
        wrong=(
            Wrong(
                lambda model: model.requires_grad_(False),
                "the head is frozen too, so nothing can learn: leave `fc` alone.",
                when=lambda attempt: attempt.got[0][-1] == 0,
            ),
            *map(free_block, TRUNK),
            Wrong(
                freeze_weights_and_eval,
                "after model.train() the statistics of BatchNorm moved: requires_grad or a single "
                "eval() does not hold them.",
                when=lambda attempt: attempt.got[1] == 1,
            ),
        ),
        other=Wrong(
            freeze_without_momentum,
            "in training mode BatchNorm still normalises by the batch: it should use its stored "
            "statistics.",
        ),
    ),
    "2.3": Function(
        hint="write a function that takes (z, mean, sd, size_mm) and returns one number in mm.",
        right=error_in_mm,
        cases=two_batches,
        form="return one number, the mean absolute error in mm",
        wrong=(
            Wrong(lambda z, mean, sd, mm: (z[:, 0] - mm).abs().mean(), STANDARDISED),
            Wrong(lambda z, mean, sd, mm: (z - mm).abs().mean(), STANDARDISED),
            Wrong(
                lambda z, mean, sd, mm: (z * sd + mean - mm).abs().mean(),
                "(4, 1) minus (4,) makes a table of 16 differences: take the column z[:, 0] first.",
            ),
            Wrong(
                lambda z, mean, sd, mm: (z[:, 0] * sd + mean - mm).square().mean(),
                "those are squared millimetres: take the absolute value, not the square.",
            ),
            Wrong(
                lambda z, mean, sd, mm: (z[:, 0] * sd + mean - mm).square().mean().sqrt(),
                "that is the root mean square error, which counts large errors more.",
            ),
            Wrong(
                lambda z, mean, sd, mm: (z[:, 0] * sd + mean - mm).mean(),
                "errors of opposite sign cancel: the absolute value is missing.",
            ),
            Wrong(
                lambda z, mean, sd, mm: (z[:, 0] - (mm - mean) / sd).abs().mean(),
                "that error is in standard deviations, not in mm: multiply by sd.",
            ),
        ),
        other=Wrong(
            lambda z, mean, sd, mm: (z[:, 0] * sd - mm).abs().mean(),
            "another number is expected. Is the mean in it?",
        ),
    ),
    "2.4": WholeNumber(
        hint="one whole number, k. Whose interval is the first to leave out zero?",
        right=2,
        wrong={
            1: "its interval includes zero: a gain of nothing is compatible with these data.",
            **dict.fromkeys((3, 4, 5), SMALLER_K),
        },
    ),
}
