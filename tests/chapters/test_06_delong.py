"""Deep dive of notebook 06: DeLong with patients, against loops, the jackknife and simulation."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from medtl_utils import delong
from tests.chapters.notebook_code import namespace

N = namespace("06_deep")


def study(seed=0, people=40, images=3, mixed=False, ties=True):
    """Scores a and b, truth and patients; `mixed`: some patients have images of both classes."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(people), rng.integers(1, images + 1, people))
    y = (rng.random(people) < 0.4)[patients]
    y[:4], y[-4:] = True, False
    if mixed:
        y = y ^ (rng.random(len(y)) < 0.2)
    shared = rng.normal(size=people)[patients]  # images of a patient resemble each other
    a, b = (effect * y + shared + 0.7 * rng.normal(size=len(y)) for effect in (1.5, 1.0))
    if ties:
        a, b = np.round(a, 1), np.round(b, 1)
    return a, b, y, np.array([f"p{k}" for k in patients])


def brute_force(a, y, patients):
    """AUC and its variance by loops over cases and patients.

    After the formulas of DeLong and Obuchowski, as printed.
    """
    beats = lambda s, t: 1.0 if s > t else 0.5 if s == t else 0.0
    ill, well = np.flatnonzero(y), np.flatnonzero(~y)
    m, n = len(ill), len(well)
    v10 = {i: sum(beats(a[i], a[j]) for j in well) / n for i in ill}
    v01 = {j: sum(beats(a[i], a[j]) for i in ill) / m for j in well}
    auc = sum(v10.values()) / m
    of_ill = lambda k: sum(v10[i] - auc for i in ill if patients[i] == k)
    of_well = lambda k: sum(v01[j] - auc for j in well if patients[j] == k)
    d10 = [of_ill(k) for k in set(patients[ill])]
    d01 = [of_well(k) for k in set(patients[well])]
    cross = [of_ill(k) * of_well(k) for k in set(patients)]
    s10 = len(d10) / ((len(d10) - 1) * m) * sum(d**2 for d in d10)
    s01 = len(d01) / ((len(d01) - 1) * n) * sum(d**2 for d in d01)
    s11 = len(cross) / (len(cross) - 1) * sum(cross)
    return auc, s10 / m + s01 / n + 2 * s11 / (m * n)


def same_as_brute_force(got: dict, a, y, unit) -> bool:
    auc, variance = brute_force(a, y, unit)
    half = stats.norm.ppf(0.975) * variance**0.5 / (auc * (1 - auc))
    ends = special.expit(special.logit(auc) + np.array([-half, half]))
    same = np.isclose(got["auc"], auc, rtol=1e-12)
    same &= np.isclose(got["se"] ** 2, variance, rtol=1e-10)
    return bool(same and np.allclose([got["low"], got["high"]], ends, rtol=1e-10))


def equals_brute_force(function) -> bool:
    for seed in range(3):
        for mixed in (False, True):
            a, _, y, patients = study(seed, mixed=mixed)
            alone = np.arange(len(y))
            if not same_as_brute_force(function(a, y, patients=patients), a, y, patients):
                return False
            if not same_as_brute_force(function(a, y, patients=None), a, y, alone):
                return False
    return True


def test_delong_equals_brute_force_placement_values():
    assert equals_brute_force(delong) and equals_brute_force(N["delong"])


def without_logit(a, y, patients=None):
    result = delong(a, y, patients=patients)
    return result | {"low": result["auc"] - 1.96 * result["se"]}


@pytest.mark.parametrize(
    "mutant",
    [
        lambda a, y, patients=None: delong(a, y),
        lambda a, y, patients=None: delong(a + 1e-6 * y, y, patients=patients),
        lambda a, y, patients=None: delong(-a, y, patients=patients),
        lambda a, y, patients=None: delong(a, y, patients=patients, level=0.9),
        without_logit,
    ],
    ids=["patients forgotten", "a tie counts 1", "wrong class", "90 %", "not on the logit scale"],
)
def test_the_brute_force_test_bites(mutant):
    assert not equals_brute_force(mutant)


def test_without_patients_it_is_delongs_formula():
    a, _, y, patients = study(4)
    v10, v01 = N["placements"](a, y)
    variance = v10.var(ddof=1) / y.sum() + v01.var(ddof=1) / (~y).sum()
    assert np.isclose(delong(a, y)["se"] ** 2, variance, rtol=1e-12)
    assert not np.isclose(delong(a, y, patients=patients)["se"] ** 2, variance, rtol=1e-2)


def near_the_jackknife(function) -> bool:
    """Leaving out one patient at a time, with scikit-learn's AUC, for one AUC and for a pair.

    The jackknife is another estimator of the same variance.
    """
    a, b, y, patients = study(7, people=150, ties=False)
    keep = [patients != k for k in np.unique(patients)]
    got = function(a, y, b, patients)
    paired_se = (got["difference_high"] - got["difference_low"]) / (2 * stats.norm.ppf(0.975))
    jack = lambda value: ((len(keep) - 1) * np.var([value(k) for k in keep])) ** 0.5
    single = jack(lambda k: roc_auc_score(y[k], a[k]))
    gap = jack(lambda k: roc_auc_score(y[k], a[k]) - roc_auc_score(y[k], b[k]))
    return abs(got["se"] / single - 1) < 0.05 and abs(paired_se / gap - 1) < 0.05


def test_delong_is_near_the_jackknife_over_patients():
    assert near_the_jackknife(delong) and near_the_jackknife(N["delong"])


def test_the_jackknife_test_bites():
    """Planted: patients forgotten; an interval of the difference that forgets the pairing."""

    def unpaired(a, y, b, patients):
        result = delong(a, y, b, patients)
        wider = result["difference_high"] + delong(b, y, patients=patients)["se"]
        return result | {"difference_high": wider}

    assert not near_the_jackknife(lambda a, y, b, patients: delong(a, y, b))
    assert not near_the_jackknife(unpaired)


def same_as_the_helper(function) -> bool:
    a, b, y, patients = study(11, mixed=True)
    for more in ((), (b,), (None, patients), (b, patients)):
        ours, helpers = function(a, y, *more), delong(a, y, *more)
        if ours.keys() != helpers.keys():
            return False
        if not np.allclose(list(ours.values()), [helpers[k] for k in ours], rtol=1e-9):
            return False
    return True


def test_the_notebooks_delong_is_the_helpers():
    assert same_as_the_helper(N["delong"])
    assert not same_as_the_helper(lambda a, y, b=None, patients=None: N["delong"](a, y, b))


def test_identical_models_do_not_differ():
    a, _, y, patients = study(2)
    d = delong(a, y, a, patients)
    assert d["difference"] == d["difference_low"] == d["difference_high"] == 0 and d["p"] == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a, y, p: (a[:-1], y, None, p), "one shape"),
        (lambda a, y, p: (np.where(y, np.nan, a), y, None, p), "finite"),
        (lambda a, y, p: (a, y, a[:3], p), "one shape"),
        (lambda a, y, p: (a, y, None, p[:-1]), "one shape"),
        (
            lambda a, y, p: (a, np.arange(len(y)) == 0, None, p),
            "at least two patients of each class; got 1 positive",
        ),
        (lambda a, y, p: (y * 1.0, y, None, p), "The AUC is 1"),
    ],
)
def test_delong_refuses(spoil, message):
    a, _, y, patients = study()
    with pytest.raises(ValueError, match=message):
        delong(*spoil(a, y, patients))


def hits_and_rejections(function=delong, runs=2000):
    """How often an interval holds the true .92 at 42 / 114, and false alarms of the paired test.

    The two models are equally good.
    """
    rng, y = np.random.default_rng(0), np.repeat([True, False], [42, 114])
    effect, hits, alarms = 2**0.5 * stats.norm.ppf(0.92), 0, 0
    for _ in range(runs):
        shared = rng.normal(size=156)
        a, b = (effect * y + 0.8 * shared + 0.6 * rng.normal(size=156) for _ in range(2))
        d = function(a, y, b)
        hits += d["low"] <= 0.92 <= d["high"]
        alarms += d["p"] < 0.05
    return hits / runs, alarms / runs


@pytest.mark.slow
def test_coverage_and_type_one_error():
    coverage, alarms = hits_and_rejections()
    assert 0.93 <= coverage <= 0.97 and 0.035 <= alarms <= 0.065, (coverage, alarms)


@pytest.mark.slow
def test_the_coverage_test_bites():
    """Planted: 90 % intervals; and a paired test that forgets the pairing."""

    def unpaired(a, y, b):
        first, second = delong(a, y), delong(b, y)
        se = (first["se"] ** 2 + second["se"] ** 2) ** 0.5
        return first | {"p": 2 * stats.norm.sf(abs(first["auc"] - second["auc"]) / se)}

    assert hits_and_rejections(lambda a, y, b: delong(a, y, b, level=0.9))[0] < 0.93
    assert hits_and_rejections(unpaired)[1] < 0.035
