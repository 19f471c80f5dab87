"""Exercises of chapter 08, Small data."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters

# ---- 08.1: how many independent images a set is worth ----


def sizes_of(patients):
    return np.unique(patients, return_counts=True)[1].astype(float)


def worth(patients, rho):
    """Kish (1965): the mean size of the patient of an image, not of a patient."""
    m = sizes_of(patients)
    return m.sum() / (1 + ((m**2).sum() / m.sum() - 1) * rho)


def plain_mean(patients, rho):
    m = sizes_of(patients)
    return m.sum() / (1 + (m.mean() - 1) * rho)


def largest(patients, rho):
    m = sizes_of(patients)
    return m.sum() / (1 + (m.max() - 1) * rho)


def not_divided(patients, rho):
    m = sizes_of(patients)
    return 1 + ((m**2).sum() / m.sum() - 1) * rho


def from_patients(patients, rho):
    m = sizes_of(patients)
    return len(m) / (1 + ((m**2).sum() / m.sum() - 1) * rho)


def without_one(patients, rho):
    m = sizes_of(patients)
    return m.sum() / (1 + (m**2).sum() / m.sum() * rho)


def three_sets():
    """(patients, rho)."""
    uneven = np.repeat(["ann", "bo", "cy", "di"], [1, 2, 3, 10])
    return [(uneven, 0.5), (np.repeat(np.arange(5), [4, 4, 1, 1, 6]), 0.2)]


WORTH = Function(
    hint="choose an image at random: how many images has its patient, on average?",
    hints=(
        "a patient with m images is met by m of the N images. So the mean of her number of images "
        "is the sum of m * m, divided by N. Put it in place of m.",
    ),
    right=worth,
    cases=three_sets,
    form="return one number",
    wrong=(
        Wrong(
            plain_mean,
            "that is the mean number of images of a patient: an image's patient has more, because "
            "patients with many images are met more often.",
        ),
        Wrong(largest, "that takes the largest patient for all: average over the images."),
        Wrong(not_divided, "that is the design effect: divide the number of images by it."),
        Wrong(from_patients, "that begins at the number of patients: begin at that of images."),
        Wrong(without_one, "the first image of a patient is no repetition: m - 1, not m."),
        Wrong(lambda p, r: float(len(p)), "all images count in full there: rho is not used."),
        Wrong(
            lambda p, r: float(len(set(np.asarray(p).tolist()))),
            "that is the number of patients, right only for rho = 1.",
        ),
    ),
    other=Wrong(
        lambda p, r: 7.7,
        "another number is expected: with rho = 0 it is the number of images, with rho = 1 and "
        "equal patients the number of patients.",
    ),
)

# ---- 08.2: federated averaging with hospitals of unequal size ----


def by_size(weights, sizes):
    return np.average(np.asarray(weights, float), axis=0, weights=sizes)


def two_rounds():
    """(weights (hospitals, k), images of each)."""
    return [
        (np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 8.0]]), np.array([10, 30, 160])),
        (np.array([[2.0, -1.0, 0.5], [0.0, 4.0, 1.5]]), np.array([5, 45])),
    ]


FEDERATED = Function(
    hint="the average should be that of all images together, as if they lay in one place.",
    hints=("multiply each hospital's weights by its share of all images, and add them up.",),
    right=by_size,
    cases=two_rounds,
    form="return the averaged weights, as many numbers as one hospital sends",
    wrong=(
        Wrong(
            lambda w, n: np.mean(w, axis=0),
            "each hospital counts the same there: one with 10 images should count less than one "
            "with 160.",
        ),
        Wrong(
            lambda w, n: (np.asarray(w) * np.asarray(n)[:, None]).sum(0),
            "the sum is not divided by the number of all images.",
        ),
        Wrong(
            lambda w, n: np.average(w, axis=0, weights=1 / np.asarray(n)),
            "small hospitals count more there than large ones: turn the weights round.",
        ),
        Wrong(
            lambda w, n: np.average(w, axis=0, weights=np.sqrt(n)),
            "the weights are square roots: take the numbers of images themselves.",
        ),
        Wrong(
            lambda w, n: np.asarray(w)[np.argmax(n)],
            "only the largest hospital is left: all should count.",
        ),
    ),
    other=Wrong(
        lambda w, n: np.mean(w, axis=0) + 100,
        "other numbers are expected: of 10 and 30 images, the second counts three times as much.",
    ),
)

# ---- 08.3: which changes leave a patient that could exist, with the same label ----

EXERCISES = {
    "8.1": WORTH,
    "8.2": FEDERATED,
    "8.3": Letters(
        hint="two questions each time: could this patient exist, and is the label still right?",
        hints=(
            "ask what made the picture. Which side is the heart on? What does the length of an ECG "
            "mean? Has a skin lesion an up and a down?",
        ),
        right="bdf",
        wrong={
            "a": "a is wrong: mirrored, the heart lies on the right, and that is a finding.",
            "b": "b is right: a camera over the skin can be held at any angle.",
            "c": "c is wrong: stretched in time, 90 beats a minute become 60: another label.",
            "d": "d is right: two technicians stain differently, and the tissue is the same.",
            "e": "e is wrong: the probe lies on the skin. Fluid that should settle would rise.",
            "f": "f is right: the same patient could have lain a little to the side.",
            "g": "g is wrong: cutting may remove the finding, and the label would stay.",
        },
    ),
}
