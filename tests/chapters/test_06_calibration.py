"""Notebook 06: calibration and temperature against others; `evaluate(train=)`; the report."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medtl_utils import evaluate, tripod_report
from medtl_utils.reports import REPORT_ITEMS
from tests.chapters.notebook_code import namespace, prose
from tests.conftest import make_split

N, DEEP = namespace("06"), namespace("06_deep")


def minus_log_likelihood(beta, z, y, w) -> float:
    return float(w @ np.logaddexp(0, np.where(y, -1, 1) * (beta[0] + beta[1] * z)))


def cases():
    """Log-odds that are too extreme and too high on the whole, far from 50 %."""
    rng = np.random.default_rng(1)
    z = rng.normal(-1, 2, 300)
    return z, rng.random(300) < special.expit(0.6 * z - 0.4), rng.integers(0, 4, 300)


def fits_the_likelihood(function) -> bool:
    """A joint fit, against a search for the likelihood's maximum, and scikit-learn."""
    z, y, w = cases()
    options = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
    search = lambda beta: minus_log_likelihood(beta, z, y, w)
    best = optimize.minimize(search, [0.0, 1.0], method="Nelder-Mead", options=options).x
    sk = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(z[:, None], y, w)
    others = np.array([best, [sk.intercept_[0], sk.coef_[0, 0]]])
    got = function(np.column_stack([np.ones_like(z), z]), y, w)
    return bool(np.allclose(got, others, atol=1e-4))


@pytest.mark.parametrize("space", [N, DEEP], ids=["06", "06_deep"])
def test_the_logistic_regression(space):
    """Planted: a penalty, weights forgotten, coefficients swapped."""

    def penalised(X, y, w):
        sk = LogisticRegression(C=0.1).fit(X[:, 1:], y, w)
        return [sk.intercept_[0], sk.coef_[0, 0]]

    right = space["logistic"]
    assert fits_the_likelihood(right)
    assert not fits_the_likelihood(penalised)
    assert not fits_the_likelihood(lambda X, y, w: right(X, y))
    assert not fits_the_likelihood(lambda X, y, w: right(X, y, w)[::-1])


def is_calibration(function) -> bool:
    """O:E, intercept with the slope fixed at 1, slope and Brier score, by loops and searches."""
    z, y, w = cases()
    p = special.expit(z)
    expected = sum(w[k] * p[k] for k in range(300))
    observed = sum(w[k] for k in range(300) if y[k])
    intercept = optimize.brentq(lambda a: w @ (y - special.expit(a + z)), -5, 5)
    best = optimize.minimize(lambda beta: minus_log_likelihood(beta, z, y, w), [0.0, 1.0]).x
    brier = sum(w[k] * (p[k] - y[k]) ** 2 for k in range(300)) / w.sum()
    return np.allclose(function(p, y, w), [observed / expected, intercept, best[1], brier], 1e-3)


def of_the_deep_dive(p, y, w):
    return DEEP["calibration"](special.logit(p), y, w)


def test_the_four_calibration_measures():
    """Planted: the joint intercept; E:O; a slope through the origin; weights forgotten."""
    right = N["calibration"]
    assert is_calibration(right) and is_calibration(of_the_deep_dive)

    def joint(p, y, w):
        z = special.logit(p)
        both = N["logistic"](np.column_stack([np.ones_like(z), z]), y, w)
        return np.concatenate([right(p, y, w)[:1], both, right(p, y, w)[3:]])

    def through_the_origin(p, y, w):
        slope = N["logistic"](special.logit(p)[:, None], y, w)
        return np.concatenate([right(p, y, w)[:2], slope, right(p, y, w)[3:]])

    assert not is_calibration(joint)
    assert not is_calibration(lambda p, y, w: right(p, y, w) ** [-1, 1, 1, 1])
    assert not is_calibration(through_the_origin)
    assert not is_calibration(lambda p, y, w: right(p, y, np.ones(len(p))))


def intercept_tells_the_direction(function) -> bool:
    """Below 0 if and only if the risks are too high on the whole, for many wrong models."""
    rng, agree = np.random.default_rng(4), []
    right = rng.normal(-2, 1, 20_000)
    y = rng.random(20_000) < special.expit(right)
    for slope, shift in ((2, 1), (2, 3), (0.5, -1.5), (0.5, 0), (1, 0.5), (1, -0.5)):
        p = special.expit(slope * right + shift)
        agree.append((function(p, y, np.ones(20_000))[1] < 0) == (p.mean() > y.mean()))
    return all(agree)


def test_below_0_means_overstated_with_the_slope_fixed_at_1():
    """Planted: the intercept of a fit that also has a slope, for which it is false."""
    assert intercept_tells_the_direction(N["calibration"])

    def joint(p, y, w):
        z = special.logit(p)
        return [0, N["logistic"](np.column_stack([np.ones_like(z), z]), y, w)[0]]

    assert not intercept_tells_the_direction(joint)


def covers_o_to_e(weights_of, studies=300) -> float:
    """How often the interval of O:E holds 1 for right probabilities, 150 patients each."""
    rng, hits = np.random.default_rng(5), 0
    for study in range(studies):
        p = special.expit(rng.normal(-1, 1, 150))
        y = rng.random(150) < p
        w = weights_of(y, study)
        low, high = np.quantile((w @ y) / (w @ p), [0.025, 0.975])
        hits += low <= 1 <= high
    return hits / studies


def test_patients_are_drawn_across_classes_for_o_to_e():
    """Planted: drawn within their class, which takes the number of cases for certain."""
    draw = N["patient_weights"]

    def within(y, seed):
        w = np.zeros((300, len(y)))
        for of in (y, ~y):
            w[:, of] = draw(np.arange(of.sum()), 300, seed)
        return w

    assert covers_o_to_e(lambda y, seed: draw(np.arange(len(y)), 300, seed)) > 0.91
    assert covers_o_to_e(within) < 0.85


def fits_a_temperature(function) -> bool:
    """Log-odds that are 2.5 times too large, against a fine grid of torch's cross-entropy."""
    rng = np.random.default_rng(6)
    z = rng.normal(0, 2, 2000)
    y = rng.random(2000) < special.expit(z)
    logits = torch.tensor(np.column_stack([np.zeros(2000), 2.5 * z]))
    truth, grid = torch.tensor(y.astype(int)), np.linspace(1.5, 4, 501)
    losses = [torch.nn.functional.cross_entropy(logits / T, truth).item() for T in grid]
    return abs(function(2.5 * z, y) - grid[np.argmin(losses)]) < 0.01


def test_temperature():
    """Planted: its inverse; no temperature at all."""
    assert fits_a_temperature(DEEP["temperature"])
    assert not fits_a_temperature(lambda z, y: 1 / DEEP["temperature"](z, y))
    assert not fits_a_temperature(lambda z, y: 1.0)


def test_loss_at_a_temperature():
    logits = 4 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).double()
    z, y = (logits[:, 1] - logits[:, 0]).numpy(), np.arange(30) < 12
    truth = torch.tensor(y.astype(int))
    want = torch.nn.functional.cross_entropy(logits / 1.7, truth).item()
    assert np.isclose(DEEP["nll"](z, y, 1.7), want, atol=1e-9)
    assert not np.isclose(DEEP["nll"](-z, y, 1.7), want, atol=1e-2)


def keeps_the_auc(scale) -> bool:
    rng = np.random.default_rng(3)
    y = np.arange(80) < 32
    z = 1.5 * y + rng.normal(size=80) - 0.5
    return all(roc_auc_score(y, scale(z, T)) == roc_auc_score(y, z) for T in (0.3, 1.0, 2.5, 9.0))


def test_a_temperature_leaves_the_auc_unchanged():
    """Planted: the sign is lost; rounding makes ties."""
    assert keeps_the_auc(lambda z, T: special.expit(z / T))
    assert not keeps_the_auc(lambda z, T: special.expit(np.abs(z) / T))
    assert not keeps_the_auc(lambda z, T: np.round(special.expit(z / T), 1))


# ---- evaluate(train=), and the report -----------------------------------------------------------


def refuses_shared_patients(function) -> bool:
    split = make_split("test", 24)
    p = torch.linspace(0.05, 0.95, 24)
    train = make_split("train", 10, np.array([f"test-{k}" for k in range(8, 18)]))
    try:
        function(torch.stack([1 - p, p], 1), split, n_boot=20, train=train)
    except ValueError as error:
        said = str(error)
        return "10 patient(s) are in both train and test" in said and "Split by patient" in said
    return False


def test_evaluate_refuses_patients_it_was_trained_on():
    assert refuses_shared_patients(evaluate)
    # planted: train is ignored
    assert not refuses_shared_patients(lambda s, split, n_boot, train: evaluate(s, split, n_boot))


def test_evaluate_with_train_gives_the_same_numbers():
    split = make_split("test", 24)
    p = torch.linspace(0.05, 0.95, 24)
    scores, train = torch.stack([1 - p, p], 1), make_split("train", 10)
    assert evaluate(scores, split, n_boot=50, train=train) == evaluate(scores, split, n_boot=50)
    nameless = [dataclasses.replace(s, patients=None) for s in (split, train)]
    assert evaluate(scores, nameless[0], n_boot=50, train=nameless[1])  # nobody can check
    with pytest.raises(ValueError, match="test has no patients, train has"):
        evaluate(scores, nameless[0], n_boot=50, train=train)


def covered(items: dict) -> tuple[int, ...]:
    """How many items of TRIPOD+AI and of CLAIM the headings name."""
    return tuple(
        len({item for pair in items.values() for item in pair[k].split(", ")}) for k in (0, 1)
    )


def test_the_report_says_how_much_it_covers():
    """17 of 52 and 21 of 44: the notebook prints it, and says that this is not all."""
    assert covered(REPORT_ITEMS) == (17, 21)
    assert covered({k: v for k, v in REPORT_ITEMS.items() if k != "errors"}) != (17, 21)
    assert "A printed form is not a complete report" in prose("06")
    assert "leaves nothing out" not in prose("06")


def test_tripod_report(tiny_task):
    split = tiny_task.open_test("final")
    p = torch.linspace(0.05, 0.95, len(split))
    result = evaluate(torch.stack([1 - p, p], 1), split, n_boot=50)
    text = tripod_report(tiny_task, split, result, {"model": "a tiny one", "data": "Made up."})
    assert "model [22 | 22, 24]: a tiny one" in text and "data [5a | 7]: a card Made up." in text
    assert "test openings [12a | 32]: opened 1 time(s) in this run: 1. final" in text
    assert "split [12a | 19, 20]: by patient: no patient is in two parts" in text
    value, low, high = result["auc"]
    assert f"auc {value:.3f} ({low:.3f} to {high:.3f})" in " ".join(text.split())
    assert all(f"\n{heading} [" in text for heading in REPORT_ITEMS)
    assert text.count("NOT REPORTED") == len(REPORT_ITEMS) - 7
    assert max(map(len, text.splitlines())) <= 100


def test_tripod_report_without_patients(tiny_task):
    train, val, split = (
        dataclasses.replace(s, patients=None)
        for s in (tiny_task.train, tiny_task.val, tiny_task.open_test("final"))
    )
    task = dataclasses.replace(tiny_task, train=train, val=val)
    p = torch.linspace(0.05, 0.95, len(split))
    result = evaluate(torch.stack([1 - p, p], 1), split, n_boot=50)
    assert "the source tells no patients" in tripod_report(task, split, result, {})


def test_tripod_report_refuses(tiny_task):
    split = tiny_task.open_test("final")
    p = torch.linspace(0.05, 0.95, len(split))
    result = evaluate(torch.stack([1 - p, p], 1), split, n_boot=50)
    with pytest.raises(ValueError, match="Unknown heading.* modle"):
        tripod_report(tiny_task, split, result, {"modle": "a typo"})
    with pytest.raises(ValueError, match="Split by patient"):
        tripod_report(tiny_task, tiny_task.train, result, {})
