"""Exercises of chapter 14, Domain generalisation."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters

# ---- 14.1: BatchNorm statistics of hospitals that send no images ----


def pooled(means, variances, sizes):
    """Mean and variance of all pixels: the variance within, and that of the means."""
    m, v, n = (np.asarray(x, float) for x in (means, variances, sizes))
    mean = (n * m).sum() / n.sum()
    return np.array([mean, (n * (v + (m - mean) ** 2)).sum() / n.sum()])


def within_only(means, variances, sizes):
    n = np.asarray(sizes, float)
    return np.array([np.average(means, weights=n), np.average(variances, weights=n)])


def same_weight(means, variances, sizes):
    return pooled(means, variances, np.ones(len(sizes)))


def between_unweighted(means, variances, sizes):
    mean, within = within_only(means, variances, sizes)
    return np.array([mean, within + np.var(means)])


def of_deviations(means, variances, sizes):
    mean, within = within_only(means, np.sqrt(variances), sizes)
    return np.array([mean, within**2 + np.average((np.asarray(means) - mean) ** 2, weights=sizes)])


def root(means, variances, sizes):
    mean, variance = pooled(means, variances, sizes)
    return np.array([mean, np.sqrt(variance)])


def two_channels():
    """(means, variances, sizes): one channel of BatchNorm in several hospitals."""
    return [
        (np.array([0.0, 3.0]), np.array([1.0, 2.0]), np.array([100, 300])),
        (np.array([1.0, -1.0, 0.5]), np.array([0.5, 1.5, 0.2]), np.array([50, 20, 130])),
    ]


POOLED = Function(
    hint="the pixels of one hospital lie around its own mean, and that mean lies away from the "
    "mean of all.",
    hints=(
        "the variance of all = the mean of (own variance + squared distance of the own mean from "
        "the mean of all), each hospital weighted by its pixels.",
    ),
    right=pooled,
    cases=two_channels,
    form="return two numbers, the mean and the variance: np.array([mean, variance])",
    wrong=(
        Wrong(
            within_only, "the average variance alone: it forgets that the hospitals' means differ."
        ),
        Wrong(same_weight, "each hospital counts the same there: weight by the number of pixels."),
        Wrong(
            between_unweighted,
            "nearly: the squared distances of the means must be weighted by pixels, too.",
        ),
        Wrong(of_deviations, "average the variances, not the standard deviations."),
        Wrong(root, "the variance is asked for, not its root."),
    ),
    other=Wrong(
        lambda m, v, n: np.array([0.1, 9.9]),
        "other numbers are expected: with equal means it is the weighted average of both.",
    ),
)

# ---- 14.2: probabilities for another prevalence ----


def moved(p, before, after):
    odds = p / (1 - p) * (after / (1 - after)) / (before / (1 - before))
    return odds / (1 + odds)


def times_ratio(p, before, after):
    return np.clip(p * after / before, 0, 1)


def numerator_only(p, before, after):
    ill = p * after / before
    return ill / (ill + 1 - p)


def two_clinics():
    """(probabilities, prevalence where it learnt, prevalence here)."""
    some = lambda: np.array([0.05, 0.3, 0.5, 0.8, 0.97])
    return [(some(), 0.4, 0.1), (some(), 0.2, 0.5)]


MOVED = Function(
    hint="another prevalence multiplies the odds of every patient by the same factor.",
    hints=(
        "odds = p / (1 - p). Multiply by the odds of the new prevalence, divide by those of the "
        "old one, and go back: p = odds / (1 + odds).",
    ),
    right=moved,
    cases=two_clinics,
    form="return as many probabilities",
    wrong=(
        Wrong(lambda p, b, a: p, "nothing was changed."),
        Wrong(times_ratio, "the odds are multiplied, not the probabilities."),
        Wrong(
            numerator_only,
            "the chance to be well changed as well: divide by (1 - after) / (1 - before).",
        ),
        Wrong(lambda p, b, a: moved(p, a, b), "the two prevalences are swapped."),
        Wrong(
            lambda p, b, a: np.log(moved(p, b, a) / (1 - moved(p, b, a))),
            "these are log-odds: turn them into probabilities.",
        ),
        Wrong(
            lambda p, b, a: moved(p, b, a) / (1 - moved(p, b, a)),
            "these are odds: turn them into probabilities.",
        ),
    ),
    other=Wrong(
        lambda p, b, a: 0.5 + 0 * p,
        "other numbers are expected: with the same prevalence before and after nothing moves.",
    ),
)

EXERCISES = {
    "14.1": POOLED,
    "14.2": MOVED,
    "14.3": Letters(
        hint="with what was the strength chosen, what is the unit of the interval, and what was "
        "it compared with?",
        hints=(
            "20 settings were tried on hospital C itself. ERM had one. The interval holds images "
            "of one hospital.",
        ),
        right="abdf",
        wrong={
            "a": "a is right: with C's labels one could have trained on C.",
            "b": "b is right: one setting against 20 is no equal search.",
            "c": "c is wrong: one hospital was tested, whatever the number of images.",
            "d": "d is right: the interval holds images of C and says nothing of a fourth one.",
            "e": "e is wrong: a good AUC leaves open whether the probabilities fit.",
            "f": "f is right: another share of cancers moves the probabilities, not the AUC.",
            "g": "g is wrong: DANN asks for the hospital's name, and never for labels of C.",
        },
    ),
}
