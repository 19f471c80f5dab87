"""Exercises of chapter 03, Loss. In all of them 1 = malignant."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Number

# ---- 3.2: the cross-entropy from one logit for each image ----


def one_logit(z, y):
    """Mean of log(1 + e^z) - y z, which never overflows."""
    return (np.logaddexp(0, z) - y * z).mean()


def by_the_sigmoid(z, y, least=0.0):
    """The formula as it stands; `least`: probabilities are kept this far from 0 and 1."""
    p = np.clip(1 / (1 + np.exp(-z)), least, 1 - least)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()


def logits():
    """(z, y): ordinary ones; then very sure ones, one of them wrong."""
    ordinary = np.array([2.0, -1.0, 0.5, -3.0])
    sure = np.array([1000.0, -1000.0, 800.0, -5.0])
    return [(ordinary, np.array([1, 0, 0, 1])), (sure, np.array([1, 0, 0, 1]))]


def on_sure(condition):
    return lambda attempt: attempt.case == 1 and condition(attempt.got).any()


ONE_LOGIT = Function(
    hint="with one logit, P(malignant) = 1 / (1 + e^-z). Which probability does the truth get?",
    hints=(
        "minus its logarithm is log(1 + e^z) - y z. Compute log(1 + e^z) without e^1000: "
        "np.logaddexp(0, z), or take the larger of 0 and z out of the sum.",
    ),
    right=one_logit,
    cases=logits,
    form="return one number, the mean loss",
    wrong=(
        Wrong(
            by_the_sigmoid,
            "on logits of 1000 the result is not finite: np.exp overflows, or the probability was "
            "rounded to 0 before its logarithm. Stay in the logarithm, as log-sum-exp does.",
            when=on_sure(lambda got: ~np.isfinite(got)),
        ),
        Wrong(
            lambda z, y: len(z) * one_logit(z, y),
            "that is the sum over the images: L is their mean.",
        ),
        Wrong(
            lambda z, y: one_logit(-z, y),
            "the classes are swapped: a large z speaks for malignant, y = 1.",
        ),
        Wrong(lambda z, y: -one_logit(z, y), "the sign is wrong: a loss is never negative."),
        Wrong(
            lambda z, y: np.logaddexp(0, z).mean(),
            "that is the loss if all were benign: the part that depends on y is missing.",
        ),
        Wrong(
            lambda z, y: np.logaddexp(0, -z).mean(),
            "that is the loss if all were malignant: y is not used.",
        ),
        Wrong(
            lambda z, y: one_logit(z, y) / np.log(2), "that is the logarithm to base 2: use np.log."
        ),
        Wrong(
            lambda z, y: by_the_sigmoid(z, y, least=1e-7),
            "ordinary logits are right, sure ones have another loss: was a probability clipped? "
            "Stay in the logarithm instead.",
            when=on_sure(np.isfinite),
        ),
    ),
    other=Wrong(lambda z, y: 0.5, "another number is expected."),
)

# ---- 3.3: three classes in a clinic with other prevalences ----


def in_rows(q):
    return q / q.sum(axis=1, keepdims=True)


def class_by_class(p, here, there):
    """The rule for two classes, for each class against the rest."""
    odds = lambda q: q / (1 - q)
    moved = odds(p) * odds(there) / odds(here)
    return moved / (1 + moved)


def clinics():
    """(p, here, there): three images; normal, benign, malignant."""
    p = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1], [0.05, 0.15, 0.8]])
    other = np.array([[0.4, 0.35, 0.25], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]])
    return [
        (p, np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.3, 0.1])),
        (other, np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.08, 0.02])),
    ]


CLINIC = Function(
    hint="for two classes the odds are multiplied. Odds are a ratio of two columns: by which "
    "factor must each column of p be multiplied?",
    hints=("by there / here. Then bring the sum of each row back to 1.",),
    right=lambda p, here, there: in_rows(p * there / here),
    cases=clinics,
    form="return an array of the shape of p, (3, 3)",
    wrong=(
        Wrong(
            lambda p, here, there: in_rows(p * here / there),
            "the other way round: that brings probabilities from there to here.",
        ),
        Wrong(
            lambda p, here, there: p * there / here,
            "the columns are right, but the rows do not sum to 1: divide each row by its sum.",
        ),
        Wrong(
            lambda p, here, there: p * there / here / (p * there / here).sum(axis=0),
            "the columns were made to sum to 1: each row must, axis=1.",
        ),
        Wrong(
            lambda p, here, there: p * there / here / (p * there / here).sum(axis=1),
            "each column was divided by the sum of a row: keepdims=True keeps rows with rows.",
        ),
        Wrong(
            lambda p, here, there: in_rows(p * there),
            "p knows the prevalences here already: divide by them before you multiply by there.",
        ),
        Wrong(
            lambda p, here, there: in_rows(p / here),
            "that is for a clinic in which all classes are equally common: multiply by there.",
        ),
        Wrong(
            class_by_class,
            "each class was moved against the rest, and the rows do not sum to 1: move all three "
            "together.",
        ),
        Wrong(
            lambda p, here, there: in_rows(class_by_class(p, here, there)),
            "the rule for two classes, class by class, is wrong for three: the rest is no class "
            "whose cases look alike in both clinics.",
        ),
        Wrong(lambda p, here, there: p, "the probabilities have not changed."),
        Wrong(
            lambda p, here, there: np.tile(there, (3, 1)),
            "that is the prevalence for everybody: what p says about each image is lost.",
        ),
    ),
    other=Wrong(lambda p, here, there: p * 0 + 1 / 3, "other numbers are expected."),
)

EXERCISES = {
    "3.1": Number(
        hint="softmax of five equal logits: which probability does each class get?",
        hints=("the loss is minus the natural logarithm of that probability: -np.log(...).",),
        right=1.609,
        wrong={
            -1.609: "the minus is missing: a loss is positive.",
            0.699: "that is log 5 to base 10, or log 2: use np.log, and five classes.",
            2.322: "that is the logarithm to base 2: use np.log.",
            4.609: "that is the log-sum-exp, 3 + log 5: subtract the logit of the true class.",
            1.386: "that is log 4: the true class is one of the five in the sum.",
            8.047: "that is the sum over five classes: only the true class has a term.",
            3.0: "that is a logit: softmax makes a probability of it, and the loss follows.",
            0.2: "that is the probability of the truth: the loss is minus its logarithm.",
            0.8: "that is 1 - p: the loss is -log p.",
        },
    ),
    "3.2": ONE_LOGIT,
    "3.3": CLINIC,
    "3.4": Number(
        hint="two steps: the threshold for right probabilities first, then what the weight does "
        "to them.",
        hints=(
            "call it malignant when 9 p > 1 - p, that is when the odds are above 1 : 9. Weight 3 "
            "multiplies the odds by 3.",
        ),
        right=0.25,
        wrong={
            0.1: "that is the threshold for right probabilities: this model's odds are 3 times "
            "too large.",
            0.5: "weight 3 stands for a cost of 3, not of 9: its threshold 0.5 is too high here.",
            0.035: "the wrong way: the weight raises this model's probabilities, so its threshold "
            "must be above 0.10.",
            0.333: "those are the odds, 1 : 3; the probability is asked for.",
            0.3: "the odds are multiplied by 3, not the probability.",
            0.75: "that is the probability of benign at the threshold.",
            0.9: "that is 9 : 1: a missed tumour is the larger cost, so the threshold is low.",
        },
    ),
}
