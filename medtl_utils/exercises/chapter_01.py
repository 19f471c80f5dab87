"""Exercises of chapter 01, Source and target tasks."""

import numpy as np

from ..phantom_tables import CHANCES
from .functions import Function, Wrong
from .kinds import WordList

# ---- 1.1: what differs ----

WHAT_DIFFERS = WordList(
    hint="for each case ask twice: do other images come in? Is another question asked, or does "
    "the same image get another answer?",
    hints=(
        "f(x) = P(y | x) depends on the prevalence (section 3), so a task can change though its "
        "question stays. If fewer lesions look malignant, P(X) changes as well.",
    ),
    words=("domain", "task", "both"),
    right=("task", "both", "domain", "both"),
    wrong=(
        "case a: the images are the same ones; only the question changes.",
        "case b: two things change. The same picture now means another probability, so f changes; "
        "and pictures that look malignant are rarer, so P(X) changes.",
        "case c: the same women and the same question; only the images look different.",
        "case d: other images come in, and another question is asked.",
    ),
)

# ---- 1.2: Bayes' rule with a pair of descriptors that are counted together ----


def posterior(prevalence, pair, echo, i, j, k):
    """P(malignant | shape i, margin j, echo k)."""
    odds = odds_after(prevalence, pair, echo, i, j, k)
    return odds / (1 + odds)


def odds_after(prevalence, pair, echo, i, j, k):
    ratio = pair[1][i, j] / pair[0][i, j] * echo[1][k] / echo[0][k]
    return prevalence / (1 - prevalence) * ratio


def taken_apart(prevalence, pair, echo, i, j, k):
    """As if shape and margin were independent."""
    product = np.stack([np.outer(p.sum(1), p.sum(0)) for p in pair])
    return posterior(prevalence, product, echo, i, j, k)


def without_echo(prevalence, pair, echo, i, j, k):
    return posterior(prevalence, pair, np.ones((2, 4)), i, j, k)


def not_normalised(prevalence, pair, echo, i, j, k):
    return prevalence * pair[1][i, j] * echo[1][k]


def two_lesions():
    """(prevalence, pair, echo, i, j, k)."""
    tables = lambda: (np.stack(CHANCES["shape", "margin"]), np.stack(CHANCES["echo",]))
    return [(0.3, *tables(), 2, 1, 3), (0.05, *tables(), 1, 0, 1)]


POSTERIOR = Function(
    hint="odds before, times one ratio for the pair, times one ratio for the echo.",
    hints=(
        "the pair's ratio is pair[1][i, j] / pair[0][i, j]: malignant over benign, read at both "
        "places together. At the end turn odds into a probability: odds / (1 + odds).",
    ),
    right=posterior,
    cases=two_lesions,
    form="return one number, the probability",
    wrong=(
        Wrong(
            taken_apart,
            "shape and margin were taken apart and multiplied: that counts the same evidence "
            "twice. Read the table at [i, j].",
        ),
        Wrong(
            lambda prevalence, pair, echo, *at: posterior(prevalence, pair[::-1], echo[::-1], *at),
            "the classes are swapped: [0] is benign, [1] is malignant.",
        ),
        Wrong(
            lambda prevalence, *others: posterior(0.5, *others),
            "the prevalence is missing: how common is malignancy before a look?",
        ),
        Wrong(without_echo, "the echo is missing."),
        Wrong(lambda *inputs: 1 - posterior(*inputs), "that is P(benign | what was seen)."),
        Wrong(odds_after, "those are the odds: odds / (1 + odds) is the probability."),
        Wrong(not_normalised, "not normalised: divide by the sum over both classes."),
    ),
    other=Wrong(lambda *inputs: 0.5, "Bayes' rule gives another number."),
)

# ---- 1.3: what the interval of a gain says, if small gains do not matter ----


def verdict(low, high, worth):
    if low > 0 or high < 0:
        return "helps" if low > 0 else "hurts"
    return "too small" if -worth <= low and high <= worth else "cannot say"


def touching_excludes(low, high, worth):
    if low >= 0 or high <= 0:
        return "helps" if low >= 0 else "hurts"
    return verdict(low, high, worth)


def by_the_middle(low, high, worth):
    return "helps" if low + high > 0 else "hurts"


def by_the_length(low, high, worth):
    word = verdict(low, high, worth)
    if word in ("helps", "hurts"):
        return word
    return "too small" if high - low <= 2 * worth else "cannot say"


def one_end(low, high, worth):
    word = verdict(low, high, worth)
    return "too small" if word == "cannot say" and high <= worth else word


def eight_intervals():
    """(low, high, worth)."""
    ends = [(-0.01, 0.2), (-0.2, 0.01), (0.02, 0.1), (-0.1, -0.02)]
    ends += [(0.0, 0.1), (-0.1, 0.0), (-0.015, 0.01), (-0.005, 0.03)]
    return [(*pair, 0.02) for pair in ends]


VERDICT = Function(
    hint="first ask on which side of zero the whole interval lies. Only if zero is inside, compare "
    "both ends with worth.",
    hints=(
        '"helps" needs low > 0, "hurts" needs high < 0. Else zero is inside: "too small" needs '
        "low >= -worth and high <= worth, both.",
    ),
    right=verdict,
    cases=eight_intervals,
    form='return one of "helps", "hurts", "too small", "cannot say"',
    wrong=(
        Wrong(touching_excludes, "an interval that begins or ends at zero has zero inside."),
        Wrong(
            lambda low, high, worth: "helps" if low > 0 else "hurts" if high < 0 else "cannot say",
            "(-0.015, 0.01) does say something: whatever the gain is, it is smaller than worth.",
        ),
        Wrong(
            by_the_middle,
            "the middle of the interval does not decide: in (-0.01, 0.2) zero is possible, too.",
        ),
        Wrong(
            lambda low, high, worth: verdict(-high, -low, worth),
            "the signs are swapped: above zero, transfer is better.",
        ),
        Wrong(
            lambda low, high, worth: "cannot say",
            "an interval that lies on one side of zero as a whole does say something.",
        ),
        Wrong(one_end, "both ends count: in (-0.2, 0.01) a large harm is possible, too."),
        Wrong(
            by_the_length,
            "a short interval alone is not enough: (-0.005, 0.03) holds gains above worth.",
        ),
    ),
    other=Wrong(
        lambda low, high, worth: "hurts",
        "another word is expected. Where is zero, and where are both ends?",
    ),
)

# ---- 1.4: the factor by which a source saves labels ----


def log_labels(wanted, numbers, aucs):
    return np.interp(wanted, aucs, np.log(numbers))


def factor(wanted, numbers, scratch, transfer):
    return np.exp(log_labels(wanted, numbers, scratch) - log_labels(wanted, numbers, transfer))


def linear(wanted, numbers, scratch, transfer):
    return np.interp(wanted, scratch, numbers) / np.interp(wanted, transfer, numbers)


def labels_saved(wanted, numbers, scratch, transfer):
    return np.exp(log_labels(wanted, numbers, scratch)) - np.exp(
        log_labels(wanted, numbers, transfer)
    )


def of_the_next_point(wanted, numbers, scratch, transfer):
    first = lambda aucs: numbers[int(np.flatnonzero(np.asarray(aucs) >= wanted)[0])]
    return first(scratch) / first(transfer)


def two_pairs_of_curves():
    """(wanted, numbers, scratch, transfer)."""
    numbers = np.array([20, 50, 100, 300, 900])
    low, high = np.array([0.55, 0.61, 0.7, 0.78, 0.85]), np.array([0.66, 0.74, 0.8, 0.86, 0.88])
    return [(w, numbers.copy(), low.copy(), high.copy()) for w in (0.77, 0.68)]


FACTOR = Function(
    hint="read each curve sideways: from the wanted AUC to the number of labels. Then divide.",
    hints=(
        "np.interp(wanted, aucs, np.log(numbers)) is the logarithm of the labels that one curve "
        "needs. A factor is the exponential of a difference of logarithms.",
    ),
    right=factor,
    cases=two_pairs_of_curves,
    form="return one number, labels of scratch divided by labels of transfer",
    wrong=(
        Wrong(linear, "interpolated over n; the curves are read over log n."),
        Wrong(
            lambda *inputs: 1 / factor(*inputs),
            "upside down: labels of scratch in the numerator, so that saving gives a factor over "
            "1.",
        ),
        Wrong(labels_saved, "that is a difference of labels; a factor is asked for."),
        Wrong(
            lambda *inputs: np.log(factor(*inputs)),
            "that is the logarithm of the factor: take the exponential.",
        ),
        Wrong(
            of_the_next_point,
            "that takes the next measured point of each curve: interpolate between two points.",
        ),
        Wrong(
            lambda wanted, numbers, scratch, transfer: np.exp(log_labels(wanted, numbers, scratch)),
            "those are the labels that scratch needs: divide by those of transfer.",
        ),
    ),
    other=Wrong(lambda *inputs: 4.0, "another factor is expected."),
)

EXERCISES = {"1.1": WHAT_DIFFERS, "1.2": POSTERIOR, "1.3": VERDICT, "1.4": FACTOR}
