"""Exercises of chapter 03, Loss."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Number

# ---- 3.2: the logarithm of the softmax ----


def log_softmax(z, axis=1):
    c = z.max(axis=axis, keepdims=True)
    return z - c - np.log(np.exp(z - c).sum(axis=axis, keepdims=True))


def softmax(z):
    return np.exp(log_softmax(z))


def largest_of_all(z):
    """The largest logit of the whole array in place of each row's."""
    c = z.max()
    return z - c - np.log(np.exp(z - c).sum(axis=1, keepdims=True))


def logits():
    """Ordinary ones; then a row of large and a row of small ones."""
    ordinary = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
    extreme = np.array([[1e3, 0.0, -1e3], [-1e3, -1001.0, -1002.0]])
    return [(ordinary,), (extreme,)]


def on_extreme(condition):
    return lambda attempt: attempt.case == 1 and condition(attempt.got).any()


OVERFLOW = "overflow: np.exp of 1000 is inf. Subtract the largest logit of each row before np.exp."
PER_ROW = (
    "a row of small logits vanished: the largest logit must be taken per row, "
    "max(axis=1, keepdims=True)."
)

LOG_SOFTMAX = Function(
    hint="write a function that takes z (m, K) and returns an array of the same shape.",
    right=log_softmax,
    cases=logits,
    form="the result should have the shape of z, (2, 3)",
    wrong=(
        Wrong(softmax, "that is the softmax itself: its logarithm is asked for."),
        Wrong(
            lambda z: log_softmax(z, axis=0),
            "the sum runs over the images (axis 0): it must run over the classes, axis=1.",
        ),
        Wrong(
            lambda z: -log_softmax(z),
            "the sign is wrong: the logarithm of a probability is negative.",
        ),
        Wrong(lambda z: log_softmax(z) / np.log(2), "that is the logarithm to base 2: use np.log."),
        Wrong(lambda z: log_softmax(z) / np.log(10), "base 10: use np.log."),
        Wrong(
            lambda z: z - z.max(axis=1, keepdims=True),
            "only the largest logit was subtracted: the log of the sum of exponentials is missing.",
        ),
        Wrong(lambda z: z - np.log(np.exp(z).sum(axis=1, keepdims=True)), OVERFLOW),
        Wrong(lambda z: np.log(np.exp(z - z.max()) / np.exp(z - z.max()).sum(1)[:, None]), PER_ROW),
        Wrong(
            lambda z: np.log(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)),
            OVERFLOW,
            when=on_extreme(np.isnan),
        ),
        Wrong(largest_of_all, PER_ROW, when=on_extreme(np.isposinf)),
        Wrong(
            lambda z: np.log(softmax(z)),
            "-inf: the softmax had rounded to 0 before its logarithm. Subtract log-sum-exp from "
            "the logits instead.",
            when=on_extreme(np.isneginf),
        ),
        Wrong(
            lambda z: log_softmax(z).clip(-50, 0),
            "large logits give other numbers than log_softmax.",
            when=on_extreme(np.isfinite),
        ),
    ),
    other=Wrong(lambda z: z, "the numbers differ from log_softmax of each row."),
)

# ---- 3.3: a weighted cross-entropy ----


def losses(z, y):
    """Cross-entropy of each image, shape (m,)."""
    return -log_softmax(z)[np.arange(len(y)), y]


def weights(y, heavy, price):
    return np.where(y == heavy, price, 1.0)


def weighted_loss(z, y, price, heavy=0):
    w = weights(y, heavy, price)
    return (w * losses(z, y)).sum() / w.sum()


def divided_by_m(z, y, price, heavy=0):
    return (weights(y, heavy, price) * losses(z, y)).mean()


def five_tumours():
    """(z, y, price), 0 = malignant."""
    z = np.array([[2.0, 0.0], [0.5, 1.0], [-1.0, 3.0], [0.0, -2.0], [1.0, 1.5]])
    return [(z, np.array([0, 0, 1, 1, 1]), 4.0), (z.copy(), np.array([1, 0, 1, 0, 1]), 2.5)]


WEIGHTED = Function(
    hint="write a function that takes (z, y, price) and returns one number.",
    right=weighted_loss,
    cases=five_tumours,
    form="return one number, the loss",
    wrong=(
        Wrong(divided_by_m, "divided by m: PyTorch divides by the sum of the weights."),
        Wrong(
            lambda z, y, price: weighted_loss(z, y, price, heavy=1),
            "the benign tumours were weighted more: in these labels 0 is malignant.",
        ),
        Wrong(
            lambda z, y, price: divided_by_m(z, y, price, heavy=1),
            "the benign tumours were weighted more (0 is malignant), and the sum was divided by m.",
        ),
        Wrong(lambda z, y, price: losses(z, y).mean(), "the weights are missing, or cancelled."),
        Wrong(
            lambda z, y, price: (weights(y, 0, price) * losses(z, y)).sum(),
            "that is the sum: divide by the sum of the weights.",
        ),
        Wrong(lambda *inputs: -weighted_loss(*inputs), "the minus is missing."),
    ),
    other=Wrong(lambda *inputs: 0.5, "another number is expected."),
)

EXERCISES = {
    "3.1": Number(
        hint="minus the natural logarithm of the probability that the truth got.",
        right=1.609,
        wrong={
            -1.609: "the minus is missing: a loss is positive.",
            0.699: "that is the logarithm to base 10: use np.log.",
            2.322: "that is the logarithm to base 2: use np.log.",
            0.8: "that is 1 - p: the loss is -log p.",
            0.223: "that is the loss of a benign tumour: the true class has probability 0.2, "
            "not 0.8.",
        },
    ),
    "3.2": LOG_SOFTMAX,
    "3.3": WEIGHTED,
    "3.4": Number(
        hint="the weight acts like more patients: 20 malignant of weight 2, 80 benign of weight 1.",
        right=1 / 3,
        wrong={
            0.4: "the odds double, not the probability: the benign tumours still count.",
            0.11: "the benign tumours were doubled.",
            0.5: "those are the odds, 40 : 80; the probability is asked for.",
            0.67: "that is the constant for benign.",
            0.2: "that is the best constant without weights.",
        },
    ),
}
