"""Exercises of chapter 10, Small models."""

import numpy as np
import torch
from scipy import stats

from .functions import Function, Wrong
from .kinds import Letters

# ---- 10.1: one scale a channel, symmetric ----


def rounded(w, bits, top=None, by_channel=True):
    """Weights (O, ...) on a symmetric grid; each output channel has its own step."""
    top = 2 ** (bits - 1) - 1 if top is None else top
    largest = w.abs().flatten(1).amax(1) if by_channel else w.abs().max().expand(len(w))
    step = (largest / top).view(-1, *[1] * (w.ndim - 1))
    return step * torch.round(w / step)


def two_kernels():
    """(w, bits): kernels whose channels differ in size."""
    cases = []
    for seed, bits in ((0, 8), (1, 4)):
        g = torch.Generator().manual_seed(seed)
        size = torch.tensor([0.1, 1.0, 3.0]).view(-1, 1, 1, 1)
        cases.append((size * torch.randn(3, 4, 3, 3, generator=g), bits))
    return cases


def integers(w, bits):
    top = 2 ** (bits - 1) - 1
    step = (w.abs().flatten(1).amax(1) / top).view(-1, 1, 1, 1)
    return torch.round(w / step)


def by_input(w, bits):
    step = w.abs().amax((0, 2, 3)).view(1, -1, 1, 1) / (2 ** (bits - 1) - 1)
    return step * torch.round(w / step)


def floored(w, bits):
    step = (w.abs().flatten(1).amax(1) / (2 ** (bits - 1) - 1)).view(-1, 1, 1, 1)
    return step * torch.floor(w / step)


ROUNDED = Function(
    hint="each output channel has its own step: its largest weight without sign, divided by "
    "2^(bits-1) - 1. Round w / step and multiply again.",
    hints=(
        "w.abs().flatten(1).amax(1) has one number for each output channel; .view(-1, 1, 1, 1) "
        "lets it divide w.",
    ),
    right=rounded,
    cases=two_kernels,
    form="return a tensor with the shape of w",
    wrong=(
        Wrong(
            lambda w, bits: rounded(w, bits, by_channel=False),
            "one step serves the whole layer: the small channel pays for the large one.",
        ),
        Wrong(integers, "these are the whole numbers. Multiply them by the step again."),
        Wrong(by_input, "the step belongs to the output channel (axis 0), not to the input's."),
        Wrong(
            lambda w, bits: rounded(w, bits, top=2 ** (bits - 1)),
            "with 2^(bits-1) the largest weight has no level: 128 does not fit into int8.",
        ),
        Wrong(
            lambda w, bits: rounded(w, bits, top=2**bits - 1),
            "half of the levels are negative: the largest level is 2^(bits-1) - 1.",
        ),
        Wrong(floored, "round to the nearest level; rounding down shifts all weights."),
        Wrong(lambda w, bits: w, "nothing was rounded."),
    ),
    other=Wrong(
        lambda w, bits: torch.zeros_like(w),
        "other weights are expected: step · round(w / step) with one step for each channel.",
    ),
)

# ---- 10.2: the sensitivity that was lost, by patient ----


def lost(before, after, patients):
    """Mean change over patients of the share of cancers found, with its 95 % t interval."""
    gap = np.asarray(after, float) - np.asarray(before, float)
    each = np.array([gap[patients == k].mean() for k in np.unique(patients)])
    reach = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each)
    return each.mean(), each.mean() - reach, each.mean() + reach


def two_clinics():
    """(before, after, patients): true where the image's cancer was found; 1 to 4 images each."""
    cases = []
    for seed, n in ((0, 40), (1, 25)):
        rng = np.random.default_rng(seed)
        patients = np.repeat([f"p{k}" for k in range(n)], rng.integers(1, 5, n))
        hard = dict(zip(np.unique(patients), rng.random(n)))
        chance = np.array([hard[p] for p in patients])
        before = rng.random(len(patients)) > 0.3 * chance
        cases.append((before, before & (rng.random(len(patients)) > 0.2 * chance), patients))
    return cases


def by_image(before, after, patients):
    return lost(before, after, np.arange(len(patients)))


def unpaired(before, after, patients):
    each = [
        np.array([np.mean(x[patients == k]) for k in np.unique(patients)]) for x in (after, before)
    ]
    gap = each[0].mean() - each[1].mean()
    reach = stats.t.ppf(0.975, len(each[0]) - 1) * np.hypot(*map(stats.sem, each))
    return gap, gap - reach, gap + reach


def one_sided(before, after, patients):
    value, low, _ = lost(before, after, patients)
    n = len(np.unique(patients))
    reach = (value - low) * stats.t.ppf(0.95, n - 1) / stats.t.ppf(0.975, n - 1)
    return value, value - reach, value + reach


def turned(before, after, patients):
    value, low, high = lost(before, after, patients)
    return -value, -high, -low


LOST = Function(
    hint="first one number for each patient: the mean of after - before over her images. Then "
    "mean and t interval over patients.",
    hints=("stats.t.ppf(0.975, n - 1) * stats.sem(each), with n patients.",),
    right=lost,
    cases=two_clinics,
    form="return three numbers: value, low, high",
    wrong=(
        Wrong(by_image, "the unit is the image here. Images of one patient belong together."),
        Wrong(unpaired, "the interval ignores the pairs: subtract in each patient first."),
        Wrong(one_sided, "this is a 90 % interval: take the 0.975 quantile."),
        Wrong(turned, "the sign is turned: after minus before, so that a loss is negative."),
    ),
    other=Wrong(
        lambda before, after, patients: (0.0, -0.1, 0.1),
        "other numbers are expected: the mean of (after - before) by patient, t interval.",
    ),
)

EXERCISES = {
    "10.1": ROUNDED,
    "10.2": LOST,
    "10.3": Letters(
        hint="who chose the margin and when, on which images, what does p = 0.31 say, and what "
        "does a new threshold hide?",
        hints=(
            "'not significant' is no proof of equality. The margin came after the result. "
            "Calibration images came from the test set.",
        ),
        right="aceg",
        wrong={
            "a": "a is right: p = 0.31 says that a difference was not shown, not that there is "
            "none.",
            "b": "b is wrong: zeros are still multiplied, so nothing says that it is faster.",
            "c": "c is right: ranges from test images are a leak, small or not.",
            "d": "d is wrong: an interval from -0.060 crosses the margin of 0.03: inconclusive.",
            "e": "e is right: a new threshold repairs the sensitivity on paper; the clinic keeps "
            "the old one unless it is told.",
            "f": "f is wrong: float32 to int8 makes weights at most 4 times smaller.",
            "g": "g is right: a margin chosen after the result can always be met.",
        },
    ),
}
