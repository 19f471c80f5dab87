"""Notebook 01: Bayes' rule from descriptors, and labels needed, against independent routes."""

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, special

from medtl_utils import phantom
from medtl_utils.phantom_tables import COUNTS
from tests.chapters.notebook_code import function


def lesions() -> list[dict[str, int]]:
    """All combinations of the seven descriptors."""
    sizes = [range(len(values)) for values in phantom.DESCRIPTORS.values()]
    return [dict(zip(phantom.DESCRIPTORS, at)) for at in itertools.product(*sizes)]


def expected_lesions(seen: dict[str, int], prevalence: float) -> list[float]:
    """Of one lesion in all, how many are benign (malignant) and look like this: from the counts."""
    share = [1 - prevalence, prevalence]
    for names, tables in COUNTS.items():
        for label, table in enumerate(tables):
            cells = [count + 0.5 for count in np.ravel(table)]
            sizes = [len(phantom.DESCRIPTORS[name]) for name in names]
            at = seen[names[0]] if len(names) == 1 else seen[names[0]] * sizes[1] + seen[names[1]]
            share[label] *= cells[at] / math.fsum(cells)
    return share


def equals_counting(posterior) -> bool:
    """Against the counts, lesion by lesion; on average it gives the prevalence back."""
    for prevalence in (0.4, 0.01):
        mean = 0.0
        for seen in lesions():
            benign, malignant = expected_lesions(seen, prevalence)
            p = posterior(seen, prevalence)
            if not math.isclose(p, malignant / (benign + malignant), rel_tol=1e-9):
                return False
            mean += p * (benign + malignant)
        if not math.isclose(mean, prevalence, rel_tol=1e-9):
            return False
    return True


def test_bayes_rule_in_the_notebook():
    assert equals_counting(function("01", "posterior"))


@pytest.mark.parametrize(
    "mistake",
    [
        ("malignant / (malignant + benign)", "malignant / benign"),
        ("prevalence, 1 - prevalence", "0.5, 0.5"),
        ("(p_benign, p_malignant)", "(p_malignant, p_benign)"),
        ("malignant * p_malignant[at]", "malignant + p_malignant[at]"),
    ],
    ids=["odds for a probability", "prevalence forgotten", "classes swapped", "added"],
)
def test_the_bayes_test_bites(mistake):
    assert not equals_counting(function("01", "posterior", mistake))


def steps_add_up(log_odds_steps) -> bool:
    """The sum is the logit of the rule by counting; each step is the change that one sign makes."""
    for seen in lesions()[::37]:
        benign, malignant = expected_lesions(seen, 0.2)
        steps = log_odds_steps(seen, 0.2)
        if not math.isclose(sum(steps.values()), special.logit(malignant / (benign + malignant))):
            return False
        if list(steps) != ["prevalence", *map(" and ".join, COUNTS)]:
            return False
        other = seen | {"halo": 1 - seen["halo"]}
        moved = [name for name, step in log_odds_steps(other, 0.2).items() if step != steps[name]]
        if moved != ["halo"]:
            return False
    return True


def test_the_steps_of_the_waterfall():
    assert steps_add_up(function("01", "log_odds_steps"))


@pytest.mark.parametrize(
    "mistake",
    [
        ("p_malignant[at] / p_benign[at]", "p_benign[at] / p_malignant[at]"),
        ("prevalence / (1 - prevalence)", "prevalence"),
        ("np.log(p_malignant", "np.log2(p_malignant"),
    ],
    ids=["ratio upside down", "no odds before", "another logarithm"],
)
def test_the_test_of_the_steps_bites(mistake):
    assert not steps_add_up(function("01", "log_odds_steps", mistake))


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


INTERVALS = {
    (0.01, 0.2): "helps",
    (-0.2, -0.01): "hurts",
    (-0.1, 0.3): "cannot say",
    (0.0, 0.1): "cannot say",
    (-0.1, 0.0): "cannot say",
}


def reads_intervals(verdict) -> bool:
    """Against intervals whose word is plain; one that touches zero has zero inside."""
    return all(verdict(*ends) == word for ends, word in INTERVALS.items())


def test_the_word_for_an_interval():
    assert reads_intervals(function("01", "verdict"))


@pytest.mark.parametrize("mistake", [("low > 0", "low >= 0"), ("high < 0", "low < 0")])
def test_the_test_of_the_word_bites(mistake):
    assert not reads_intervals(function("01", "verdict", mistake))
