"""Exercises of chapter 09, Unrelated tasks."""

import numpy as np
import torch

from .functions import Function, Wrong
from .kinds import Letters

# ---- 9.1: an H-score that is 0 for nothing ----


def plain_score(features, labels):
    """Share of the variance of two classes' labels that a linear function of features explains."""
    x = np.column_stack([np.ones(len(labels)), features])
    y = np.asarray(labels, float)
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - residual @ residual / ((y - y.mean()) ** 2).sum()


def corrected(features, labels):
    n, p = features.shape
    return 1 - (1 - plain_score(features, labels)) * (n - 1) / (n - p - 1)


def two_sets():
    """(features, labels): 60 images with 8 features, 40 with 20."""
    cases = []
    for n, p in ((60, 8), (40, 20)):
        rng = np.random.default_rng(n)
        labels = (np.arange(n) % 3 == 0).astype(int)
        cases.append((rng.normal(size=(n, p)) + labels[:, None] * np.linspace(0, 0.7, p), labels))
    return cases


def subtracted(features, labels):
    n, p = features.shape
    return plain_score(features, labels) - p / (n - 1)


CORRECTED = Function(
    hint="for labels that mean nothing the H-score is p / (n - 1) on average. Move this value to 0 "
    "and leave 1 where it is.",
    hints=(
        "(H - c) / (1 - c) with c = p / (n - 1); n images, p features. For two classes H is the "
        "R² of a linear regression of the labels on the features, with an intercept.",
    ),
    right=corrected,
    cases=two_sets,
    form="return one number",
    wrong=(
        Wrong(plain_score, "that is the H-score itself: it is p / (n - 1) for nothing, not 0."),
        Wrong(subtracted, "0 stands for nothing now, but a perfect source no longer gets 1."),
        Wrong(
            lambda x, y: 1 - (1 - plain_score(x, y)) * len(y) / (len(y) - x.shape[1]),
            "nearly: one degree of freedom belongs to the mean. The value for nothing is "
            "p / (n - 1).",
        ),
        Wrong(
            lambda x, y: plain_score(x, y) / (x.shape[1] / (len(y) - 1)),
            "a ratio to the value for nothing is 1 for nothing: 0 is asked for.",
        ),
        Wrong(
            lambda x, y: 1 - (1 - plain_score(x, y)) * (len(y) - x.shape[1] - 1) / (len(y) - 1),
            "the factor is upside down: the score must fall, not rise.",
        ),
    ),
    other=Wrong(
        lambda x, y: 0.5,
        "another number is expected: 0 for nothing on average, 1 for a perfect source.",
    ),
)

# ---- 9.2: LoRA goes into the convolution ----


def merged(W, A, B, scale):
    return W + scale * torch.einsum("or,rikl->oikl", B[:, :, 0, 0], A)


def three_weights():
    """(W, A, B, scale): the weights of a convolution and of LoRA's two, and a factor."""
    cases = []
    for seed, rank in ((0, 2), (1, 4)):
        g = torch.Generator().manual_seed(seed)
        new = lambda *shape, g=g: torch.randn(*shape, generator=g)
        cases.append((new(4, 4, 3, 3), new(rank, 4, 3, 3), new(4, rank, 1, 1), 0.5 + seed))
    return cases


def channels_swapped(W, A, B, scale):
    return W + scale * torch.einsum("or,rikl->iokl", B[:, :, 0, 0], A)


def divided_by_rank(W, A, B, scale):
    return W + scale / A.shape[0] * torch.einsum("or,rikl->oikl", B[:, :, 0, 0], A)


def mirrored(W, A, B, scale):
    return W + scale * torch.einsum("or,rikl->oikl", B[:, :, 0, 0], A.flip(2, 3))


MERGED = Function(
    hint="the second convolution is 1×1: each output channel is a weighted sum of A's r channels. "
    "So is its filter.",
    hints=(
        "flatten A to (r, c_in·k·k) and B to (c_out, r): B @ A has the size of W. Or einsum "
        '"or,rikl->oikl".',
    ),
    right=merged,
    cases=three_weights,
    form="return a tensor with the shape of W",
    wrong=(
        Wrong(lambda W, A, B, scale: W, "nothing was added to W."),
        Wrong(
            lambda W, A, B, scale: merged(W, A, B, scale) - W,
            "that is what LoRA adds; the merged convolution is W plus that.",
        ),
        Wrong(lambda W, A, B, scale: merged(W, A, B, 1.0), "the factor `scale` is missing."),
        Wrong(divided_by_rank, "do not divide by the rank: `scale` is the whole factor here."),
        Wrong(channels_swapped, "input and output channels are swapped in what you add."),
        Wrong(mirrored, "the filters of A must not be mirrored: PyTorch's layers correlate."),
        Wrong(
            lambda W, A, B, scale: W - merged(W, A, B, scale) + W,
            "the sign is wrong: LoRA is added.",
        ),
    ),
    other=Wrong(
        lambda W, A, B, scale: W * 2,
        "another weight is expected: its convolution must equal conv(x, W) + scale · B(A(x)).",
    ),
)

EXERCISES = {
    "9.1": CORRECTED,
    "9.2": MERGED,
    "9.3": Letters(
        hint="what were the sources compared with, on which images was the choice made, and how "
        "many targets carry the claim?",
        hints=(
            "the choice among 20 sources used the test images. Nobody tried random weights or a "
            "simple baseline. One target is one case.",
        ),
        right="acdf",
        wrong={
            "a": "a is right: the score saw the test labels, so the choice fits them.",
            "b": "b is wrong: LogME needs labels and features, but no training.",
            "c": "c is right: a best source may still be worse than none.",
            "d": "d is right: one target shows one case, no rule.",
            "e": "e is wrong: more features raise an H-score without any knowledge behind it.",
            "f": "f is right: without a simple baseline nobody knows whether 0.84 is much.",
            "g": "g is wrong: fewer numbers that move are cheaper, not always better.",
        },
    ),
}
