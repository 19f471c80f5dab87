"""Exercises of chapter 16b, Several machines."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters

# ---- 16b.1: the gradient of the whole batch from those of its parts ----


def whole_gradient(gradients, sizes):
    return (gradients * sizes[:, None]).sum(0) / sizes.sum()


def three_parts():
    """(gradients (parts, weights), sizes (parts,)): means over parts of unequal size."""
    rng = np.random.default_rng(16)
    return [
        (rng.normal(size=(3, 2)), np.array([8, 8, 5])),
        (rng.normal(size=(2, 3)), np.array([1, 31])),
    ]


FROM_PARTS = Function(
    hint="a mean over all images, from means over parts: how much does each part count?",
    hints=("multiply each gradient by its number of images, add, divide by all images.",),
    right=whole_gradient,
    cases=three_parts,
    form="return an array of shape (weights,)",
    wrong=(
        Wrong(
            lambda g, n: g.mean(0),
            "that is the mean of means: an image of a small part counts more than one of a large.",
        ),
        Wrong(lambda g, n: g.sum(0), "these are means, not sums: weigh each by its images."),
        Wrong(
            lambda g, n: (g * n[:, None]).sum(0),
            "that is the gradient of the sum: divide by the number of all images.",
        ),
        Wrong(
            lambda g, n: (g * n[:, None]).mean(0),
            "divide by the number of images, not by the number of parts.",
        ),
        Wrong(
            lambda g, n: (g / n[:, None]).sum(0) / (1 / n).sum(),
            "larger parts count more, not less: multiply by the number of images.",
        ),
    ),
    other=Wrong(
        lambda g, n: np.zeros(g.shape[1]),
        "other numbers are expected: each part counts as much as its share of the images.",
    ),
)

# ---- 16b.2: how long a step takes ----


def step_and_efficiency(workers, shared, alone, megabytes, gigabits):
    step = _step(workers, shared, alone, megabytes, gigabits)
    return step, (shared + alone) / (workers * step)


def _sending(workers, megabytes, gigabits):
    return 2 * (workers - 1) / workers * megabytes * 8 / (1000 * gigabits)


def _step(workers, shared, alone, megabytes, gigabits):
    return shared / workers + alone + _sending(workers, megabytes, gigabits)


def wrong_step(step):
    """The right efficiency for a wrong time of a step."""

    def function(workers, shared, alone, *network):
        seconds = step(workers, shared, alone, *network)
        return seconds, (shared + alone) / (workers * seconds)

    return function


def two_clusters():
    """(workers, shared, alone, megabytes, gigabits)."""
    return [(4, 0.4, 0.02, 45.0, 10.0), (16, 1.6, 0.05, 100.0, 25.0)]


STEP = Function(
    hint="three parts of a step: compute that is shared out, what is not, and the exchange.",
    hints=(
        "exchange = 2 * (workers - 1) / workers * megabytes * 8 / (1000 * gigabits) seconds; "
        "efficiency = time of one worker / (workers * time of a step).",
    ),
    right=step_and_efficiency,
    cases=two_clusters,
    form="return two numbers: seconds of a step, and the efficiency",
    wrong=(
        Wrong(
            wrong_step(lambda p, s, a, m, g: s / p + a + _sending(p, m, g) / 8),
            "a byte has eight bits: megabytes and Gbit/s differ by that factor.",
        ),
        Wrong(
            wrong_step(lambda p, s, a, m, g: (s + a) / p + _sending(p, m, g)),
            "`alone` is not divided: every worker spends all of it.",
        ),
        Wrong(
            wrong_step(lambda p, s, a, m, g: s / p + a + _sending(p, m, g) / 2),
            "in a ring the gradients go round twice: once to be added, once to be told.",
        ),
        Wrong(
            wrong_step(lambda p, s, a, m, g: s / p + a + 2 * m * 8 / (1000 * g)),
            "a worker does not send its own part to itself: (workers - 1) / workers.",
        ),
        Wrong(
            wrong_step(lambda p, s, a, m, g: s / p + a),
            "the exchange is missing: gradients of `megabytes` are added over all workers.",
        ),
        Wrong(
            lambda p, s, a, m, g: (_step(p, s, a, m, g), (s + a) / _step(p, s, a, m, g)),
            "that is the speed-up: the efficiency is the speed-up per worker.",
        ),
    ),
    other=Wrong(
        lambda p, s, a, m, g: (1.0, 1.0),
        "other numbers are expected: shared / workers + alone + exchange, then the efficiency.",
    ),
)

EXERCISES = {
    "16b.1": FROM_PARTS,
    "16b.2": STEP,
    "16b.3": Letters(
        hint="for each step: is the training still the same one, and is it needed at all?",
        hints=(
            "50 trainings that need nothing of each other are no reason for one training on eight "
            "cards. And ask what each card drew, normalised and wrote.",
        ),
        right="bdf",
        wrong={
            "a": "a is sound: 50 trainings need nothing of each other.",
            "b": "b is a fault: the batch is eight times as large, so there are eight times fewer "
            "updates, and the old rate was chosen for another batch.",
            "c": "c is sound: a frozen BatchNorm does not look at the batch.",
            "d": "d is a fault: eight programs write into one file, and it ends as a mixture.",
            "e": "e is sound: a cell that has its file is not made again.",
            "f": "f is a fault: with the same seed each card draws the same images; the batch then "
            "holds every image eight times.",
        },
    ),
}
