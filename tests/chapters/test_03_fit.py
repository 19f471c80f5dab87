"""Notebook 03 and its deep dive: the fit, what a weight does, the interval, the ideal reader."""

import ast

import nbformat
import numpy as np
import pytest
from scipy import special, stats
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from medtl_utils import phantom, phantom_tables
from tests.chapters.notebook_code import namespace, path_of

CORE, DEEP = "03", "03_deep"


def tumours() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_breast_cancer(return_X_y=True)
    x = x[:, [1, 4, 8]]
    return np.column_stack([(x - x.mean(0)) / x.std(0), np.ones(len(y))]), y


def core_fit(space: dict, x, y, w) -> np.ndarray:
    return space["fit"](x, y, w)


def deep_fit(space: dict, x, y, w) -> np.ndarray:
    loss = lambda z, y: space["weighted_cross_entropy"](z, y, w)
    gradient = lambda z, y: space["weighted_gradient"](z, y, w)
    return space["fit"](x, y, loss, gradient)


FITS = {CORE: core_fit, DEEP: deep_fit}


def fit_equals_sklearn(number: str, *mistakes: tuple[str, str]) -> bool:
    """Loss and probabilities at the notebook's optimum equal scikit-learn's at its own."""
    space, (x, y) = namespace(number, *mistakes), tumours()
    theta = FITS[number](space, x, y, np.ones(2))
    witness = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, :-1], y)
    p = witness.predict_proba(x[:, :-1])
    same = np.allclose(space["softmax"](x @ theta), p, atol=1e-5)
    loss = space["weighted_cross_entropy"](x @ theta, y, np.ones(2))
    return bool(same and abs(loss - log_loss(y, p)) < 1e-9)


@pytest.mark.parametrize("number", FITS)
def test_the_fit_equals_sklearn(number):
    assert fit_equals_sklearn(number)


@pytest.mark.parametrize("number", FITS)
@pytest.mark.parametrize(
    "mistake",
    [
        ("np.log(", "np.log2("),
        ("(softmax(z) - one_hot) / w[y].sum()", "(one_hot - softmax(z)) / w[y].sum()"),
        ("'gtol': 1e-08", "'gtol': 0.01"),
    ],
)
def test_the_fit_test_bites(number, mistake):
    assert not fit_equals_sklearn(number, mistake)


def weight_is_a_shift(*mistakes: tuple[str, str], weight=7.0) -> bool:
    """With an intercept alone the weighted optimum is log(n1 / n0) + log(weight), by counting."""
    space, (_, y) = namespace(CORE, *mistakes), tumours()
    theta = space["fit"](np.ones((len(y), 1)), y, np.array([weight, 1.0]))
    wanted = np.log((y == 0).sum() / (y == 1).sum()) + np.log(weight)
    return bool(np.isclose(theta[0, 0] - theta[0, 1], wanted, atol=1e-5))


def test_a_weight_is_a_shift_of_the_logit():
    assert weight_is_a_shift()
    assert not weight_is_a_shift(("w[y]", "w[::-1][y]"))
    assert not weight_is_a_shift(("w[y]", "(w[y] ** 2)"))


def functions(number: str) -> dict[str, str]:
    """The functions that a notebook defines, name -> text; the copy cell apart."""
    found = {}
    for cell in nbformat.read(path_of(number), 4).cells:
        if cell.cell_type == "code" and "copy" not in cell.metadata.get("tags", []):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef):
                    found[node.name] = ast.unparse(node)
    return found


def test_what_the_deep_dive_repeats_is_the_cores():
    core, deep = functions(CORE), functions(DEEP)
    repeated = (core.keys() & deep.keys()) - {"fit", "features"}
    wanted = {"log_softmax", "softmax", "weighted_cross_entropy", "weighted_gradient"}
    assert wanted | {"unshift", "interval", "squared_error", "logsumexp"} == repeated
    assert {name: core[name] for name in repeated} == {name: deep[name] for name in repeated}


def unshift_is_right(space: dict) -> bool:
    p = np.array([0.01, 0.3, 0.5, 0.97])
    wanted = special.expit(special.logit(p) - np.log(5))
    return np.allclose(space["unshift"](p, np.log(5)), wanted, rtol=1e-12)


def test_the_shift_is_taken_back():
    assert unshift_is_right(namespace(CORE))
    assert not unshift_is_right(namespace(CORE, ("np.exp(-log_ratio)", "np.exp(log_ratio)")))
    assert not unshift_is_right(namespace(CORE, ("odds / (1 + odds)", "odds")))


def interval_draws_patients(space: dict) -> bool:
    """One image a patient: near Student's interval. Each image shown twice: the very same."""
    values = np.random.default_rng(8).normal(2, 1, 150)
    people = np.arange(150)
    once = space["interval"](values, people)
    twice = space["interval"](np.tile(values, 2), np.tile(people, 2))
    low, high = stats.t.interval(0.95, 149, values.mean(), stats.sem(values))
    near = np.allclose(once[1:], (low, high), atol=0.15 * (high - low))
    return bool(near and np.isclose(once[0], values.mean()) and np.allclose(once, twice))


def test_the_interval_draws_patients():
    assert interval_draws_patients(namespace(CORE))


@pytest.mark.parametrize(
    "mistake",
    [
        (
            "np.unique(groups, return_inverse=True)",
            "np.unique(np.arange(len(values)), return_inverse=True)",
        ),
        ("(draws, len(n))", "(draws, len(n) // 2)"),
        ("[0.025, 0.975]", "[0.25, 0.75]"),
    ],
    ids=["images are drawn", "too few are drawn", "the middle half"],
)
def test_the_interval_test_bites(mistake):
    assert not interval_draws_patients(namespace(CORE, mistake))


def ideal_reader_is_right(space: dict) -> bool:
    """Bayes' rule as a product of probabilities, for one patient at a time, from the counts."""
    rng = np.random.default_rng(9)
    seen = {name: rng.integers(0, len(values), 40) for name, values in phantom.DESCRIPTORS.items()}
    odds = np.full(40, phantom.PREVALENCE / (1 - phantom.PREVALENCE))
    for names, by_class in phantom_tables.COUNTS.items():
        for patient in range(40):
            for counts, power in zip(by_class, (-1, 1)):
                cell, flat = counts, np.ravel(counts)
                for name in names:
                    cell = cell[seen[name][patient]]
                odds[patient] *= ((cell + 0.5) / (flat + 0.5).sum()) ** power
    helper = np.log(phantom.likelihood_ratio(seen)) + np.log(phantom.PREVALENCE / 0.6)
    got = space["ideal_logit"](seen)
    return np.allclose(got, np.log(odds), rtol=1e-10) and np.allclose(got, helper, rtol=1e-10)


def test_the_ideal_reader():
    assert ideal_reader_is_right(namespace(DEEP))


@pytest.mark.parametrize(
    "mistake",
    [
        ("malignant / benign", "benign / malignant"),
        ("np.log(phantom.PREVALENCE / (1 - phantom.PREVALENCE))", "0"),
        (
            "np.log(malignant / benign)[tuple((descriptors[n] for n in names))]",
            "sum((np.log(m / b)[descriptors[n]] for n, m, b in zip(names, *map("
            "lambda p: [p.sum(1), p.sum(0)] if p.ndim == 2 else [p], (malignant, benign)))))",
        ),
    ],
    ids=["ratio upside down", "prior forgotten", "shape and margin apart"],
)
def test_the_ideal_reader_test_bites(mistake):
    assert not ideal_reader_is_right(namespace(DEEP, mistake))
