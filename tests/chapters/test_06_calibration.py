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
from tests.chapters.notebook_code import namespace
from tests.conftest import make_split

N = namespace("06")


def fits_the_likelihood(function) -> bool:
    """Against a search for the likelihood's maximum, and scikit-learn without a penalty."""
    rng = np.random.default_rng(1)
    z = rng.normal(0, 2, 300)
    y, w = rng.random(300) < special.expit(0.6 * z - 0.4), rng.integers(0, 4, 300)
    minus = lambda beta: float(w @ np.logaddexp(0, np.where(y, -1, 1) * (beta[0] + beta[1] * z)))
    options = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
    best = optimize.minimize(minus, [0.0, 1.0], method="Nelder-Mead", options=options).x
    sk = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(z[:, None], y, w)
    others = np.array([best, [sk.intercept_[0], sk.coef_[0, 0]]])
    return bool(np.allclose(function(z, y, w), others, atol=1e-4))


def test_calibration_intercept_and_slope():
    assert fits_the_likelihood(N["recalibrate"])


def test_the_calibration_test_bites():
    """Planted: a penalty, weights forgotten, intercept and slope swapped."""

    def penalised(z, y, w):
        sk = LogisticRegression(C=0.1).fit(z[:, None], y, w)
        return [sk.intercept_[0], sk.coef_[0, 0]]

    assert not fits_the_likelihood(penalised)
    assert not fits_the_likelihood(lambda z, y, w: N["recalibrate"](z, y))
    assert not fits_the_likelihood(lambda z, y, w: N["recalibrate"](z, y, w)[::-1])


def test_a_model_that_is_twice_too_sure_has_slope_one_half():
    rng = np.random.default_rng(2)
    z = rng.normal(size=40_000)
    y = rng.random(40_000) < special.expit(z)
    assert np.allclose(N["recalibrate"](2 * z, y), [0, 0.5], atol=0.03)
    assert not np.allclose(N["recalibrate"](z, y), [0, 0.5], atol=0.03)


def test_log_odds_and_loss_from_probabilities():
    split = make_split("test", 30)
    logits = 4 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).double()
    z = N["log_odds"](logits.softmax(1), split)
    assert np.allclose(z, logits[:, 1] - logits[:, 0], atol=1e-6)
    y = split.labels.numpy() == 1
    want = torch.nn.functional.cross_entropy(logits / 1.7, split.labels).item()
    assert np.isclose(N["nll"](z, y, 1.7), want, atol=1e-6)
    assert not np.isclose(N["nll"](-z, y, 1.7), want, atol=1e-2)


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
