"""How many patients: formulas against simulated studies, and a published example."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medtl_utils import sample_size as size_module
from medtl_utils.sample_size import auc_error, paired_power, paired_size, validation_size


def sample(rng, n, auc, prevalence, models=1, correlation=0.0):
    """(labels, logits of each model): normal in both classes, calibrated at this AUC."""
    spread = np.sqrt(2) * stats.norm.ppf(auc)
    labels = rng.random(n) < prevalence
    shared = rng.normal(size=n) * np.sqrt(correlation)
    noise = [shared + np.sqrt(1 - correlation) * rng.normal(size=n) for _ in range(models)]
    middle = np.log(prevalence / (1 - prevalence)) + (labels - 0.5) * spread**2
    return labels, [middle + spread * one for one in noise]


def test_widths_are_those_of_simulated_studies():
    auc, prevalence = 0.85, 0.3
    sizes = validation_size(auc, prevalence, auc_width=0.15, slope_width=0.6, oe_width=0.4)
    rng, widths = np.random.default_rng(0), {}
    aucs, slopes, ratios = [], [], []
    for _ in range(250):
        labels, (lp,) = sample(rng, sizes["AUC"], auc, prevalence)
        aucs.append(roc_auc_score(labels, lp))
        labels, (lp,) = sample(rng, sizes["observed to expected cases"], auc, prevalence)
        ratios.append(np.log(labels.sum() / (1 / (1 + np.exp(-lp))).sum()))
        labels, (lp,) = sample(rng, sizes["calibration slope"], auc, prevalence)
        slopes.append(LogisticRegression(C=np.inf).fit(lp[:, None], labels).coef_[0, 0])
    widths = {"AUC": 3.92 * np.std(aucs), "calibration slope": 3.92 * np.std(slopes)}
    assert widths["AUC"] == pytest.approx(0.15, rel=0.15)
    assert widths["calibration slope"] == pytest.approx(0.6, rel=0.18)
    assert 3.92 * np.std(ratios) < 0.4  # the formula takes the expected number for known


def test_a_published_example():
    """Example of the R package pmvalsampsize; its slope comes from a simulation."""
    sizes = validation_size(0.8, 0.018, oe_width=1, linear_predictor=(-5, 2.5))
    assert sizes["AUC"] == 4252
    assert sizes["calibration slope"] == pytest.approx(4544, rel=0.005)
    assert sizes["observed to expected cases"] == pytest.approx(905, abs=1)


def share_of_significant(n, power_of, repeats=200) -> tuple[float, float]:
    """(simulated power of a paired comparison, power by the formula)."""
    rng, prevalence = np.random.default_rng(1), 0.4
    differences = []
    for _ in range(repeats):
        labels, (one, two) = sample(rng, n, 0.8, prevalence, 2, 0.5)
        # another spread of the second model: its AUC is higher
        two = two + (labels - 0.5) * 0.45
        differences.append(roc_auc_score(labels, two) - roc_auc_score(labels, one))
    spread = np.sqrt(2) * stats.norm.ppf(0.8)
    higher = stats.norm.cdf((spread**2 + 0.45) / (np.sqrt(2) * spread))
    z = np.array(differences) / np.std(differences)
    return float(np.mean(np.abs(z) > 1.96)), power_of(0.8, higher - 0.8, prevalence, n)


def test_power_is_that_of_simulated_studies(monkeypatch):
    simulated, formula = share_of_significant(300, paired_power)
    assert simulated == pytest.approx(formula, abs=0.1) and 0.3 < formula < 0.95
    unpaired = lambda *a: paired_power(*a, correlation=0.0)  # planted: as if on other patients
    simulated, formula = share_of_significant(300, unpaired)
    assert abs(simulated - formula) > 0.1
    n = paired_size(0.8, 0.05, 0.4)
    assert paired_power(0.8, 0.05, 0.4, n) >= 0.8 > paired_power(0.8, 0.05, 0.4, n - 1)
    assert auc_error(0.8, 0.4, 400) == pytest.approx(auc_error(0.8, 0.4, 1600) * 2, rel=0.01)


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: validation_size(1.0, 0.3), "1.0 must lie between 0 and 1"),
        (lambda: validation_size(0.8, 0.0), "0.0 must lie"),
        (lambda: paired_power(0.9, 0.2, 0.3, 100), "must lie between 0 and 1"),
        (lambda: paired_power(0.9, 0.0, 0.3, 100), "difference must not be 0"),
        (lambda: paired_size(0.8, 1e-6, 0.3), "More than 10,000,000 patients"),
    ],
)
def test_impossible_numbers(call, word):
    with pytest.raises(ValueError, match=word):
        call()
    assert size_module.LARGEST > paired_size(0.8, 0.05, 0.3)  # the valid twin
