"""Notebook 01: Bayes' rule from descriptors, and labels needed, against independent routes."""

import itertools

import numpy as np
import pytest
from scipy import optimize
from sklearn.metrics import roc_auc_score

from medtl_utils import phantom
from tests.chapters.notebook_code import function


def joint_table() -> dict[tuple[int, tuple[int, ...]], float]:
    """P(class, descriptors) for all combinations, multiplied in plain Python."""
    joint = {}
    combinations = itertools.product(*(range(len(v)) for v in phantom.DESCRIPTORS.values()))
    for label, values in itertools.product((0, 1), list(combinations)):
        p = phantom.PREVALENCE if label else 1 - phantom.PREVALENCE
        for name, k in zip(phantom.DESCRIPTORS, values):
            p *= phantom.LIKELIHOODS[name][label][k]
        joint[label, values] = p
    return joint


def equals_the_joint_table(probability_from) -> bool:
    """Against the joint table of class and descriptors; and the AUC against `best_auc`."""
    joint = joint_table()
    combinations = [values for label, values in joint if label == 0]
    want = [joint[1, d] / (joint[0, d] + joint[1, d]) for d in combinations]
    columns = {name: np.array(c) for name, c in zip(phantom.DESCRIPTORS, zip(*combinations))}
    got = probability_from(columns)
    labels = np.repeat([0, 1], len(combinations))
    weights = [joint[label, d] for label in (0, 1) for d in combinations]
    auc = roc_auc_score(labels, np.tile(got, 2), sample_weight=weights)
    return np.allclose(got, want, atol=1e-12) and abs(auc - phantom.best_auc()) < 1e-9


def test_bayes_rule_in_the_notebook():
    assert equals_the_joint_table(function("01", "probability_from"))


@pytest.mark.parametrize(
    "mistake",
    [
        ("np.array(malignant) / np.array(benign)", "np.array(benign) / np.array(malignant)"),
        ("phantom.PREVALENCE / (1 - phantom.PREVALENCE)", "1.0"),
        ("odds / (1 + odds)", "odds"),
    ],
    ids=["ratio upside down", "prior forgotten", "odds for a probability"],
)
def test_the_bayes_test_bites(mistake):
    assert not equals_the_joint_table(function("01", "probability_from", mistake))


def equals_root_finding(labels_needed) -> bool:
    """Against a root of the curve that NumPy interpolates over log n."""
    numbers, aucs = [25, 50, 100, 600], [0.55, 0.61, 0.60, 0.86]
    for wanted in (0.57, 0.605, 0.7, 0.85):
        above = lambda x, a=wanted: np.interp(x, np.log(numbers), aucs) - a
        steps = itertools.pairwise(np.log(numbers))
        first = next((a, b) for a, b in steps if above(a) < 0 <= above(b))
        root = np.exp(optimize.brentq(above, *first))
        if not np.isclose(labels_needed(wanted, numbers, aucs), root):
            return False
    return labels_needed(0.9, numbers, aucs) == np.inf and labels_needed(0.5, numbers, aucs) == 25


def test_labels_needed():
    assert equals_root_finding(function("01", "labels_needed"))


@pytest.mark.parametrize(
    "mistakes",
    [[("np.log(", "("), ("np.exp(", "(")], [("np.inf", "numbers[-1]")]],
    ids=["a linear axis", "a curve that rises for ever"],
)
def test_the_labels_needed_test_bites(mistakes):
    assert not equals_root_finding(function("01", "labels_needed", *mistakes))
