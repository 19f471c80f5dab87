"""Notebook 06: bootstrap, threshold, predictive values and net benefit, against plain counting."""

import numpy as np
from scipy import stats

from tests.chapters.notebook_code import namespace

N = namespace("06")


def draws_whole_patients(function) -> bool:
    patients = np.repeat(np.array(list("abcdefgh")), [3, 1, 2, 2, 1, 4, 1, 2])
    y = np.repeat([True, False], [8, 8])
    weights = function(patients, y, 500)
    whole = all(np.ptp(weights[:, patients == k], axis=1).max() == 0 for k in "abcdefgh")
    counts = weights[:, [np.flatnonzero(patients == k)[0] for k in "abcdefgh"]]
    by_class = (counts[:, :4].sum(1) == 4).all() and (counts[:, 4:].sum(1) == 4).all()
    return bool(whole and by_class and abs(counts.mean() - 1) < 1e-9 and counts.std() > 0.5)


def test_the_bootstrap_draws_whole_patients_within_their_class():
    right = N["patient_weights"]
    assert draws_whole_patients(right)
    # planted: images are drawn
    assert not draws_whole_patients(lambda patients, y, n: right(np.arange(len(y)), y, n))


def bca_is_scipys(function) -> bool:
    x = np.random.default_rng(3).gamma(1.5, size=40)
    drawn = np.random.default_rng(0).choice(x, (20_000, 40)).mean(1)
    rng = np.random.default_rng(1)
    scipys = stats.bootstrap((x,), np.mean, n_resamples=20_000, method="BCa", rng=rng)
    want, left_out = scipys.confidence_interval, (x.sum() - x) / 39
    got = function(x.mean(), drawn, left_out)
    return bool(np.allclose(got, [want.low, want.high], atol=0.02))


def test_bca_equals_scipys():
    assert bca_is_scipys(N["bca"])
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
    assert net_benefit_is_counting(N["net_benefit"])
    assert not net_benefit_is_counting(lambda tp, fp, n, t: tp / n - fp / n)
    assert not net_benefit_is_counting(lambda tp, fp, n, t: tp / n - fp / n * t)
