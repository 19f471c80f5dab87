"""Exercises of chapter 06, Evaluate honestly."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters, Word
from .reading import alike, plain

# ---- 6.1: the positive predictive value ----


def ppv(sensitivity, specificity, prevalence):
    found = prevalence * sensitivity
    alarms = (1 - prevalence) * (1 - specificity)
    return found / (found + alarms)


def npv(sensitivity, specificity, prevalence):
    return ppv(specificity, sensitivity, 1 - prevalence)


def two_clinics():
    """(sensitivity, specificity, prevalence)."""
    return [(0.9, 0.8, 0.1), (0.6, 0.95, 0.02)]


PPV = Function(
    hint="write a function that takes (sensitivity, specificity, prevalence) and returns "
    "one number.",
    right=ppv,
    cases=two_clinics,
    form="return one number between 0 and 1",
    wrong=(
        Wrong(
            lambda a, b, p: ppv(a, b, 0.5),
            "the prevalence is missing: how many ill and how many healthy people are tested?",
        ),
        Wrong(lambda a, b, p: ppv(b, a, p), "sensitivity and specificity are swapped."),
        Wrong(npv, "that is the negative predictive value."),
        Wrong(
            lambda a, b, p: 1 - ppv(a, b, p),
            "that is the share of false alarms among the positives: 1 minus it.",
        ),
        Wrong(
            lambda a, b, p: a * p,
            "those are the found among all people: divide by all who test positive.",
        ),
        Wrong(
            lambda a, b, p: 100 * ppv(a, b, p),
            "a share between 0 and 1 is asked for, not per cent.",
        ),
    ),
    other=Wrong(lambda a, b, p: 0.333, "Bayes' rule gives another number."),
)

# ---- 6.2: a threshold for a wanted specificity ----

ILL = (0.95, 0.9, 0.8, 0.7, 0.6, 0.55, 0.45, 0.4, 0.3, 0.15)
WELL = (0.85, 0.65, 0.5, 0.42, 0.28, 0.25, 0.2, 0.1, 0.05, 0.02)


def threshold(scores, positive, wanted):
    """The lowest score that, as a threshold, has at least the specificity `wanted`."""
    return min(t for t in scores if (scores[~positive] < t).mean() >= wanted)


def benign_at_threshold_cleared(scores, positive, wanted):
    return min(t for t in scores if (scores[~positive] <= t).mean() >= wanted)


def malignant_counted(scores, positive, wanted):
    return min(t for t in scores if (scores[positive] < t).mean() >= wanted)


def threshold_for_sensitivity(scores, positive, wanted):
    return max(t for t in scores if (scores[positive] >= t).mean() >= wanted)


def most_accurate(scores, positive, wanted):
    return max(scores, key=lambda t: ((scores >= t) == positive).mean())


def twenty_patients():
    """(scores, positive, wanted)."""
    scores, positive = np.array(ILL + WELL), np.repeat([True, False], 10)
    return [(scores.copy(), positive.copy(), wanted) for wanted in (0.8, 0.6)]


def called_positive(result, *inputs):
    """The calls that a threshold leads to: two thresholds with the same calls are equally good."""
    t = plain(result)
    if not alike(t, np.array(0.0)):
        return None
    return np.array(ILL + WELL) >= t.item() - 1e-6  # float32 rounds a score up or down


THRESHOLD = Function(
    hint="write a function that takes (scores, positive, wanted) and returns one threshold.",
    right=threshold,
    cases=twenty_patients,
    observe=called_positive,
    form="return one number, the threshold",
    wrong=(
        Wrong(
            benign_at_threshold_cleared,
            "a benign case exactly at the threshold is called positive: use < for the cleared, "
            "not <=.",
        ),
        Wrong(
            malignant_counted,
            "wrong class: specificity counts the benign, yours counted the malignant.",
        ),
        Wrong(
            threshold_for_sensitivity,
            "wrong class: that is the threshold for a sensitivity; specificity counts the benign.",
        ),
        Wrong(
            most_accurate, "that threshold has the highest accuracy; a specificity was asked for."
        ),
        Wrong(
            lambda scores, positive, wanted: max(scores),
            "the highest threshold misses nearly all the malignant: take the lowest that is "
            "good enough.",
        ),
    ),
    other=Wrong(
        lambda scores, positive, wanted: 0.1,
        "another threshold is expected: the lowest that clears the wanted share of the benign.",
    ),
)

EXERCISES = {
    "6.1": PPV,
    "6.2": THRESHOLD,
    "6.3": Letters(
        hint='a string of letters, such as "bc". What has the model, or the one who chose, seen of '
        "the test set?",
        right="abde",
        wrong={
            "c": "c does not leak: choosing is what the validation set is for.",
            "f": "f does not leak: the source has seen neither these women nor these labels.",
            "a": "a leaks too: the mean and spread contain the test images.",
            "b": "b leaks too: the same woman is in both sets.",
            "d": "d leaks too: the test set has chosen.",
            "e": "e leaks too: copies of test images are trained on.",
        },
    ),
    "6.4": Word(
        hint='answer "yes", "no" or "cannot say". Which interval is about the difference?',
        right="yes",
        wrong={
            "cannot say": "the two intervals overlap, but the images are the same: the paired "
            "interval, +0.01 to +0.05, decides.",
            "no": "the paired difference is above zero over its whole interval.",
        },
    ),
}
