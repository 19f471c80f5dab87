"""Notebook 06 and its deep dive: bootstrap, threshold, predictive values, net benefit, Holm and
standard errors, against plain counting and simulation."""

import numpy as np
from scipy import stats

from tests.chapters.notebook_code import namespace

N, DEEP = namespace("06"), namespace("06_deep")


def draws_whole_patients(function) -> bool:
    patients = np.repeat(np.array(list("abcdefgh")), [3, 1, 2, 2, 1, 4, 1, 2])
    weights = function(patients, 500)
    whole = all(np.ptp(weights[:, patients == k], axis=1).max() == 0 for k in "abcdefgh")
    counts = weights[:, [np.flatnonzero(patients == k)[0] for k in "abcdefgh"]]
    as_many = (counts.sum(1) == 8).all()
    return bool(whole and as_many and abs(counts.mean() - 1) < 1e-9 and counts.std() > 0.5)


def test_the_bootstrap_draws_whole_patients():
    right = N["patient_weights"]
    assert draws_whole_patients(right)
    # planted: images are drawn; each patient comes once
    assert not draws_whole_patients(lambda patients, n: right(np.arange(len(patients)), n))
    assert not draws_whole_patients(lambda patients, n: np.ones((n, len(patients))))


def coverage(unit_of, studies) -> float:
    """How often the percentile interval of a mean over images holds the truth, 0.

    150 patients with 1 to 4 images, which share a part.
    """
    rng, hits = np.random.default_rng(8), 0
    for study in range(studies):
        patients = np.repeat(np.arange(150), rng.integers(1, 5, 150))
        values = rng.normal(size=150)[patients] + 0.5 * rng.normal(size=len(patients))
        w = N["patient_weights"](unit_of(patients), 400, study)
        low, high = np.quantile(w @ values / w.sum(1), [0.025, 0.975])
        hits += low <= 0 <= high
    return hits / studies


def test_the_interval_over_patients_covers_and_over_images_does_not():
    assert 0.93 <= coverage(lambda patients: patients, 800) <= 0.97
    assert coverage(lambda patients: np.arange(len(patients)), 200) < 0.85


def bca_is_scipys(function) -> bool:
    x = np.random.default_rng(3).gamma(1.5, size=40)
    drawn = np.random.default_rng(0).choice(x, (20_000, 40)).mean(1)
    rng = np.random.default_rng(1)
    scipys = stats.bootstrap((x,), np.mean, n_resamples=20_000, method="BCa", rng=rng)
    want, left_out = scipys.confidence_interval, (x.sum() - x) / 39
    got = function(x.mean(), drawn, left_out)
    return bool(np.allclose(got, [want.low, want.high], atol=0.02))


def test_bca_equals_scipys():
    assert bca_is_scipys(DEEP["bca"])
    # planted: the percentile interval
    assert not bca_is_scipys(lambda value, drawn, left_out: np.quantile(drawn, [0.025, 0.975]))


def threshold_is_right(function) -> bool:
    rng = np.random.default_rng(5)
    for _ in range(20):
        p, y = np.round(rng.random(40), 1), np.arange(40) < 17
        best = None
        for t in sorted(set(p)):
            found = sum(1 for k in range(40) if y[k] and p[k] >= t)
            best = t if found / 17 >= 0.9 else best
        if function(p, y, 0.9) != best:
            return False
    return True


def test_the_chosen_threshold_by_counting():
    assert threshold_is_right(N["choose_threshold"])
    # planted: >, not >=
    beyond = lambda p, y, wanted: [t for t in p if (p[y] > t).mean() >= wanted]
    assert not threshold_is_right(lambda p, y, wanted: max(beyond(p, y, wanted), default=0))


def bayes_is_counting(function) -> bool:
    for ill, well, found, alarms in ((200, 800, 180, 160), (5, 995, 4, 99)):
        got = function(found / ill, 1 - alarms / well, ill / (ill + well))
        ppv, cleared, missed = found / (found + alarms), well - alarms, ill - found
        if not np.allclose(got, [ppv, cleared / (cleared + missed)], rtol=1e-12):
            return False
    return True


def test_predictive_values_by_counting_people():
    right = N["predictive_values"]
    assert bayes_is_counting(right)
    assert not bayes_is_counting(lambda a, b, p: right(b, a, p))
    assert not bayes_is_counting(lambda a, b, p: right(a, b, 0.5))


def net_benefit_is_counting(function) -> bool:
    rng = np.random.default_rng(6)
    p, y = rng.random(200), rng.random(200) < 0.3
    for t in (0.05, 0.2, 0.5, 0.8):
        worth = sum((1 if y[k] else -t / (1 - t)) for k in range(200) if p[k] >= t) / 200
        if not np.isclose(function((y & (p >= t)).sum(), (~y & (p >= t)).sum(), 200, t), worth):
            return False
    return True


def test_net_benefit_by_counting():
    """Planted: a false alarm weighs as much as a find; t in place of its odds."""
    assert net_benefit_is_counting(DEEP["net_benefit"])
    assert not net_benefit_is_counting(lambda tp, fp, n, t: tp / n - fp / n)
    assert not net_benefit_is_counting(lambda tp, fp, n, t: tp / n - fp / n * t)


def is_holms(function) -> bool:
    """By the definition: reject in order, until one p exceeds its level; adjusted p <= level."""
    rng = np.random.default_rng(9)
    for _ in range(50):
        p, level = rng.random(6) ** 3, rng.choice([0.01, 0.05, 0.2])
        rejected = np.zeros(6, bool)
        for step, k in enumerate(np.argsort(p)):
            if p[k] > level / (6 - step):
                break
            rejected[k] = True
        if not np.array_equal(np.asarray(function(p)) <= level, rejected):
            return False
    return True


def test_holm_rejects_what_the_definition_rejects():
    """Planted: no correction; Bonferroni's; Holm's without the running maximum."""
    assert is_holms(DEEP["holm"])
    assert not is_holms(lambda p: p)
    assert not is_holms(lambda p: np.minimum(1, 6 * p))
    assert not is_holms(lambda p: p * (6 - np.argsort(np.argsort(p))))


def is_the_spread(function) -> bool:
    """Hanley and McNeil's formula is exact for exponential scores: their model of the AUC."""
    rng, rate = np.random.default_rng(2), 4.0
    scores = np.where(np.arange(60) < 20, rate, 1.0) * rng.exponential(size=(4000, 60))
    aucs = (stats.rankdata(scores, axis=1)[:, :20].sum(1) - 210) / (20 * 40)
    return bool(abs(function(rate / (1 + rate), 20, 60) / np.std(aucs) - 1) < 0.05)


def test_the_standard_error_of_an_auc_by_simulation():
    """Planted: the classes swapped; a binomial share of the malignant."""
    assert is_the_spread(DEEP["auc_se"])
    assert not is_the_spread(lambda auc, m, n: DEEP["auc_se"](auc, n - m, n))
    assert not is_the_spread(lambda auc, m, n: (auc * (1 - auc) / m) ** 0.5)
