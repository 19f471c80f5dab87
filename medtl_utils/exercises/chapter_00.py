"""Exercises of chapter 00, Start here."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters, WholeNumber

# ---- 0.2: what an accuracy is worth beside the best constant answer ----


def above_baseline(labels, called):
    return (called == labels).mean() - max(labels.mean(), 1 - labels.mean())


def accuracy(labels, called):
    return (called == labels).mean()


def above_always_benign(labels, called):
    return accuracy(labels, called) - (1 - labels.mean())


def above_chance(labels, called):
    return accuracy(labels, called) - 0.5


def of_the_calls(labels, called):
    return accuracy(labels, called) - max(called.mean(), 1 - called.mean())


def balanced(labels, called):
    shares = [(called[labels == c] == c).mean() for c in (0, 1)]
    return np.mean(shares) - max(labels.mean(), 1 - labels.mean())


def two_sets():
    """(labels, called): malignant are few in the first, many in the second."""
    few = [1, 0, 0, 1, 0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 1, 0, 1, 0]
    many = [1, 1, 0, 1, 1, 1, 0, 1], [1, 1, 1, 1, 0, 0, 0, 1]
    return [(np.array(labels), np.array(called)) for labels, called in (few, many)]


BASELINE = Function(
    hint="first the share of right calls. Then: how often is a constant answer right?",
    hints=(
        "there are two constant answers, always 0 and always 1. The better one is right for the "
        "share max(labels.mean(), 1 - labels.mean()).",
    ),
    right=above_baseline,
    cases=two_sets,
    form="return one number, a difference of two shares",
    wrong=(
        Wrong(accuracy, "that is the accuracy itself: subtract that of the best constant answer."),
        Wrong(of_the_calls, "the baseline was taken from the calls: it must come from the labels."),
        Wrong(above_chance, "0.5 is not the accuracy of a constant answer: count the labels."),
        Wrong(
            balanced,
            "that is the mean of sensitivity and specificity: accuracy is the share of all images "
            "that are called right.",
        ),
        Wrong(
            lambda labels, called: -above_baseline(labels, called),
            "the sign is wrong: accuracy of the calls minus accuracy of the constant answer.",
        ),
        Wrong(
            lambda labels, called: 100 * above_baseline(labels, called),
            "a difference of shares between 0 and 1 is asked for, not per cent.",
        ),
        Wrong(
            above_always_benign,
            "right where most images are benign. Where most are malignant, the best constant "
            "answer is the other one.",
        ),
    ),
    other=Wrong(
        lambda labels, called: 0.25,
        "another number is expected: the share of right calls minus the share of the more "
        "frequent label.",
    ),
)

EXERCISES = {
    "0.1": Letters(
        hint="for each project ask: is anything that was learnt in one task used to learn another?",
        hints=(
            "three of the six go on learning from where another task ended. Using a finished "
            "network as it is, and showing more copies of the same images, are something else.",
        ),
        right="acf",
        wrong={
            "b": "b is no transfer: the network is used as it is, and nothing is learnt in the new "
            "hospital. It is a test on other patients (external validation).",
            "d": "d is no transfer: its weights start at random, however many labels there are.",
            "e": "e is no transfer: mirrored copies are augmentation; they come from no other "
            "task.",
            "a": "a is transfer: from vessels to retinopathy, by fine-tuning all layers.",
            "c": "c is transfer: from words to a disease, although neither is an image.",
            "f": "f is transfer: the shared layers stay as they are, and a new last layer learns.",
        },
    ),
    "0.2": BASELINE,
    "0.3": WholeNumber(
        hint="an image is called malignant rightly or wrongly. Count both kinds, then add them.",
        hints=(
            "sensitivity tells how many of the 40 are found. Of the 120, the share "
            "1 - specificity is called malignant by mistake.",
        ),
        right=46,
        wrong={
            34: "those are the malignant images that are found: the false alarms are missing.",
            12: "those are the false alarms alone: the malignant images that are found are "
            "missing.",
            6: "those are the malignant images that are missed.",
            114: "those are called benign: 108 rightly and 6 by mistake.",
            142: "those are called rightly, malignant and benign together.",
            18: "those are all mistakes: 6 missed and 12 false alarms.",
            54: "sensitivity and specificity are swapped.",
            106: "the classes are swapped: 40 images are malignant, 120 benign.",
            40: "that many are malignant: here the calls are counted, right or wrong.",
        },
    ),
}
