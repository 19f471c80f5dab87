"""Exercises of chapter 01, Source and target tasks."""

import numpy as np

from .functions import Function, Wrong
from .kinds import WholeNumber, WordList


def posterior(prior, p_malignant, p_benign):
    """P(malignant | descriptors) by Bayes' rule."""
    malignant = prior * np.prod(p_malignant)
    benign = (1 - prior) * np.prod(p_benign)
    return malignant / (malignant + benign)


def posterior_from_sums(prior, p_malignant, p_benign):
    malignant = prior * np.sum(p_malignant)
    benign = (1 - prior) * np.sum(p_benign)
    return malignant / (malignant + benign)


def odds(prior, p_malignant, p_benign):
    return prior * np.prod(p_malignant) / ((1 - prior) * np.prod(p_benign))


def two_patients():
    """(prior, p_malignant, p_benign): three descriptors, then two."""
    return [
        (0.1, np.array([0.5, 0.3, 0.8]), np.array([0.2, 0.6, 0.1])),
        (0.4, np.array([0.7, 0.2]), np.array([0.1, 0.4])),
    ]


def verdict(low, high):
    """What the interval of a gain shows."""
    if low > 0:
        return "helps"
    return "hurts" if high < 0 else "cannot say"


def five_intervals():
    return [(-0.01, 0.2), (-0.2, 0.01), (0.02, 0.1), (-0.1, -0.02), (0.0, 0.1), (-0.1, 0.0)]


SWAPPED = "the signs are swapped: above zero, transfer is better."
MIDDLE = "the middle of the interval does not decide: in (-0.01, 0.2) zero is possible too."
ONE_SIDE = "an interval that lies on one side of zero as a whole does say something."
TOUCHES = "an interval that begins or ends at zero includes zero."

EXERCISES = {
    "1.1": WordList(
        hint='a list of four words out of "domain", "task", "both".',
        words=("domain", "task", "both"),
        right=("domain", "task", "both", "domain"),
        wrong=(
            "case a: the question stays, the images change.",
            "case b: the images stay, the question changes.",
            "case c: both of them change.",
            "case d: the question stays; images of children look different.",
        ),
    ),
    "1.2": Function(
        hint="write a function that takes (prior, p_malignant, p_benign) and returns one number.",
        right=posterior,
        cases=two_patients,
        form="return one number, the probability",
        wrong=(
            Wrong(
                lambda *inputs: 1 - posterior(*inputs),
                "that is P(benign | descriptors): malignant belongs in the numerator.",
            ),
            Wrong(
                lambda prior, p, q: posterior(0.5, p, q),
                "the prior is missing: how common is the disease before anyone looks?",
            ),
            Wrong(
                posterior_from_sums, "the likelihoods were added: independent descriptors multiply."
            ),
            Wrong(
                lambda prior, p, q: prior * np.prod(p),
                "not normalised: divide by the sum over both classes.",
            ),
            Wrong(odds, "those are the odds: odds / (1 + odds) is the probability."),
        ),
        other=Wrong(lambda *inputs: 0.5, "Bayes' rule gives another number."),
    ),
    "1.3": Function(
        hint="write a function that takes (low, high) and returns "
        '"helps", "hurts" or "cannot say".',
        right=verdict,
        cases=five_intervals,
        form='return one of "helps", "hurts", "cannot say"',
        wrong=(
            Wrong(
                lambda low, high: "helps" if low >= 0 else "hurts" if high <= 0 else "cannot say",
                TOUCHES,
            ),
            Wrong(lambda low, high: "helps" if low + high > 0 else "hurts", MIDDLE),
            Wrong(lambda low, high: verdict(-high, -low), SWAPPED),
            Wrong(lambda low, high: "cannot say", ONE_SIDE),
        ),
        other=Wrong(
            lambda low, high: "hurts" if low < 0 else "helps",
            "another word is expected. Is zero inside the interval, or on which side of it?",
        ),
    ),
    "1.4": WholeNumber(
        hint="0.78 lies half-way between 0.72 and 0.84; half-way on a log axis is a geometric "
        "mean.",
        right=200,
        wrong={
            250: "half-way on a linear axis; the curve is drawn over log n.",
            400: "at 400 the curve is at 0.84 already.",
            100: "at 100 the curve is at 0.72 only.",
            40000: "take the square root of the product.",
        },
    ),
}
