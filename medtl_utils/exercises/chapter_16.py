"""Exercises of chapter 16, Your own data."""

import re

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters, WholeNumber

# ---- 16.1: one patient, several spellings ----


def _numbered(people: list[str]) -> np.ndarray:
    order = list(dict.fromkeys(people))
    return np.array([order.index(one) for one in people])


def _before(names: list[str]) -> list[str]:
    return [name.split("_")[0] for name in names]


def one_patient(names):
    plain = [one.lower().replace("-", "") for one in _before(names)]
    return _numbered([re.sub(r"(?<!\d)0+(?=\d)", "", one) for one in plain])


def as_written(names):
    return _numbered(_before(names))


def capitals_kept(names):
    plain = [one.replace("-", "") for one in _before(names)]
    return _numbered([re.sub(r"(?<!\d)0+(?=\d)", "", one) for one in plain])


def zeros_kept(names):
    return _numbered([one.lower().replace("-", "") for one in _before(names)])


def hyphens_kept(names):
    return _numbered([re.sub(r"(?<!\d)0+(?=\d)", "", one.lower()) for one in _before(names)])


def all_zeros(names):
    return _numbered([re.sub("[-0]", "", one.lower()) for one in _before(names)])


def each_image(names):
    return np.arange(len(names))


def in_sorted_order(names):
    plain = [one.lower().replace("-", "") for one in _before(names)]
    keys = [re.sub(r"(?<!\d)0+(?=\d)", "", one) for one in plain]
    order = sorted(set(keys))
    return np.array([order.index(one) for one in keys])


def some_names():
    """(names,)."""
    return [
        (
            [
                "P070_left.png", "P007_left.png", "P007_top.png", "p-7_right.png",
                "p-070_right.png", "P-07_left_2.png", "A7_left.png", "P700_a.png",
                "P0_b.png", "p-0_c.png",
            ],
        ),
        (["Q1_a.png", "q1_b.png", "Q10_a.png", "Q-01_c.png", "B010_x.png", "b-10_x.png"],),
    ]  # fmt: skip


SPELLINGS = Function(
    hint="bring each name into one form first, then give equal forms the same number.",
    hints=(
        "take what stands before '_', make it lower case, remove '-'. Zeros count unless they "
        "stand in front of a number: re.sub(r'(?<!\\d)0+(?=\\d)', '', text) removes those.",
    ),
    right=one_patient,
    cases=some_names,
    form="return an array of whole numbers, one for each name",
    wrong=(
        Wrong(as_written, "P007 and p-7 are one patient: bring the names into one form first."),
        Wrong(capitals_kept, "capital letters do not count: p7 and P7 are one patient."),
        Wrong(zeros_kept, "zeros in front of a number do not count: P007 and P7 are one patient."),
        Wrong(hyphens_kept, "'-' does not count: p-7 and p7 are one patient."),
        Wrong(all_zeros, "P070 is not P007: only zeros in front of a number do not count."),
        Wrong(each_image, "that is a number for each image: several images show one patient."),
        Wrong(in_sorted_order, "number the patients in the order in which they first appear."),
    ),
    other=Wrong(
        lambda names: one_patient(names) + 1,
        "other numbers are expected: 0 for the first patient, 1 for the next new one.",
    ),
)

EXERCISES = {
    "16.1": SPELLINGS,
    "16.2": WholeNumber(
        hint="first the number of ill people that the sensitivity needs, then all people.",
        hints=("1.96 * (0.9 * 0.1 / m) ** 0.5 = 0.05 gives m ill people; one person in 5 is ill.",),
        right=692,
        wrong={
            139: "that many ill people are needed; only one in five of those who come is ill.",
            138: "that many ill people are needed; only one in five of those who come is ill.",
            691: "round up, not down: a fraction of a person does not come.",
            695: "do not round in between: round up at the end.",
            173: "divide by the share of the ill, 0.2; and ±0.05 is half of the width of 0.10.",
            28: "divide by 0.2, do not multiply: the ill are a part of those who come.",
        },
    ),
    "16.3": Letters(
        hint="for each step: does it use the answer, drop hard cases, or count one patient twice?",
        hints=(
            "a step that is told and treats all images alike does not flatter. Ask of the others: "
            "what would happen with tomorrow's patient?",
        ),
        right="bcef",
        wrong={
            "a": "a flatters nothing: all patients of a year, by a rule that is told.",
            "b": "b flatters: the hard cases are gone, and tomorrow's hard case will come.",
            "c": "c flatters: images of one patient lie on both sides of a random split.",
            "d": "d flatters nothing: the same for all images, and it is told.",
            "e": "e flatters: paint in malignant images alone is a new mark of the class.",
            "f": "f flatters: a threshold chosen on the test images fits these images.",
            "g": "g flatters nothing: patients are the unit, and their number is told.",
        },
    ),
}
