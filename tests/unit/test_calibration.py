"""Calibration against slow, plain computations, and the parts of the report that show it."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from scipy import optimize, special

from medtl_utils import calibration as calibration_module
from medtl_utils import evaluate, run_sections
from medtl_utils.calibration import calibration, measures, reliability
from medtl_utils.data import Task
from tests.conftest import make_split


def cases(n=300, seed=0):
    """(probabilities that are too high and too far apart, outcomes, whole weights)."""
    rng = np.random.default_rng(seed)
    right = rng.normal(-0.5, 1, n)
    y = rng.random(n) < special.expit(right)
    return special.expit(1.7 * right + 0.4), y, rng.integers(0, 4, n)


# ---- the three measures --------------------------------------------------------------------------


def loss(beta, z, y, w):
    return w @ (np.logaddexp(0, beta[0] + beta[1] * z) - y * (beta[0] + beta[1] * z))


def agrees(function) -> bool:
    """With a root finder and a search of the likelihood, for two weightings at once."""
    p, y, w = cases()
    z, both = special.logit(p), np.stack([w, np.ones(300)])
    wanted = []
    for weights in both:
        shift = optimize.brentq(lambda a, v=weights: v @ (y - special.expit(a + z)), -9, 9)
        slope = optimize.minimize(loss, [0.0, 1.0], (z, y, weights)).x[1]
        wanted.append([weights[y].sum() / (weights @ p), shift, slope])
    return np.allclose(function(p, y, both), wanted, atol=2e-4)


def test_the_measures_agree_with_plain_searches():
    """Planted: expected to observed; the intercept of the fit with a slope; weights forgotten."""
    assert agrees(measures)
    assert not agrees(lambda p, y, w: measures(p, y, w) ** [-1, 1, 1])

    def joint(p, y, w):
        both = calibration_module._newton(special.logit(p), y * 1.0, w * 1.0, sloped=True)
        return np.column_stack([measures(p, y, w)[:, 0], *both])

    assert not agrees(joint)
    assert not agrees(lambda p, y, w: measures(p, y, np.ones_like(w)))


def test_classes_that_do_not_overlap_end_at_the_limit():
    y = np.arange(40) % 2 > 0
    apart = measures(np.where(y, 0.7, 0.3), y, np.ones((1, 40)))[0]
    assert apart[2] == calibration_module.LIMIT and np.isnan(
        measures(np.full(40, 0.4), y, np.ones((1, 40)))[0, 2]
    )


def converges(newton) -> bool:
    """Rare classes far from the middle: at the end the slope of the likelihood is flat."""
    rng, flat = np.random.default_rng(1), []
    for _ in range(40):
        z = rng.normal(-3.5, 0.6, 60)
        y = np.arange(60) < 3 if rng.random() < 0.5 else rng.random(60) < special.expit(z + 1)
        if not 0 < y.sum() < 60 or z[y].min() > z[~y].max():
            continue
        w = rng.multinomial(60, np.full(60, 1 / 60), 20) * 1.0
        a, b = newton(z - z.mean(), y * 1.0, w, sloped=True)
        inside = (np.abs(a) < 19) & (np.abs(b) < 19)
        rest = w * (y - special.expit(a[:, None] + b[:, None] * (z - z.mean())))
        flat.append(np.abs(rest.sum(1))[inside].max(initial=0) < 1e-3)
        flat.append(np.abs(rest @ (z - z.mean()))[inside].max(initial=0) < 1e-3)
    return all(flat) and len(flat) > 40


def test_rare_classes_converge():
    assert converges(calibration_module._newton)
    short = lambda *given, **how: 0.9 * calibration_module._newton(*given, **how)
    assert not converges(short)


def test_a_very_wrong_sum_of_probabilities_is_told():
    """Observed : expected may be above 20; it has no limit."""
    rng, y = np.random.default_rng(2), np.arange(200) % 2 > 0
    p = np.where(y, 0.03, 0.01) * rng.uniform(0.8, 1.2, 200)
    found = calibration(*split_of(y, p), 1, n_boot=100)["observed : expected"]
    assert found[1] <= found[0] <= found[2] and found[0] > calibration_module.LIMIT


def test_a_site_called_unknown_keeps_its_cases():
    names = np.array(["A", "unknown", "", "A", "unknown"])
    assert sorted(np.concatenate([*run_sections._sites(names).values()])) == [0, 1, 2, 3, 4]


def split_of(y, p, patients=None):
    split = make_split("test", len(y), patients, size=2)
    split.labels = torch.from_numpy(np.asarray(y, np.int64))
    return torch.from_numpy(np.stack([1 - p, p], 1)), split


def coverage(answer, studies=80, n=120) -> float:
    """How often the interval of observed : expected holds 1 where the probabilities are right."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(studies):
        p = special.expit(rng.normal(-0.5, 1, n))
        _, low, high = answer(*split_of(rng.random(n) < p, p))
        hits += low <= 1 <= high
    return hits / studies


def test_intervals_cover():
    """Planted: the number of ill cases is held fixed, as in a bootstrap within each class."""
    ratio = "observed : expected"
    assert coverage(lambda *pair: calibration(*pair, 1, n_boot=100)[ratio]) >= 0.85

    def within(scores, split):
        y, p = split.labels.numpy() > 0, scores[:, 1].numpy()
        rng, sides = np.random.default_rng(0), [np.flatnonzero(split.labels == c) for c in (0, 1)]
        rows = [np.concatenate([rng.choice(side, len(side)) for side in sides]) for _ in range(100)]
        return y.sum() / p.sum(), *np.quantile([y.sum() / p[r].sum() for r in rows], [0.025, 0.975])

    assert coverage(within) < 0.7


def test_images_of_one_patient_are_drawn_together():
    """Four equal images a patient: the interval is as wide as with one image."""
    p, y, _ = cases(80)
    alone = calibration(*split_of(y, p, np.arange(80).astype(str)), 1)["slope"]
    four = lambda x: np.repeat(x, 4)
    together = calibration(*split_of(four(y), four(p), four(np.arange(80).astype(str))), 1)["slope"]
    as_many = calibration(*split_of(four(y), four(p)), 1)["slope"]  # the planted mistake
    assert np.allclose(alone, together) and as_many[2] - as_many[1] < 0.7 * (alone[2] - alone[1])


def test_bins_of_the_diagram():
    p, y, _ = cases(85)
    found = reliability(p, y)
    assert found[:, 4].tolist() == [11] * 5 + [10] * 3 and (np.diff(found[:, 0]) > 0).all()
    assert (found[:, 2] <= found[:, 1]).all() and (found[:, 1] <= found[:, 3]).all()
    assert np.isclose(found[:, 1] @ found[:, 4], y.sum())
    assert len(reliability(p[:9], y[:9])) == 1


# ---- the parts of the report ---------------------------------------------------------------------


def reported(n=240, classes=("benign", "malignant"), **columns):
    """(scores, test split, task) with columns: name -> function of the number of images."""
    parts = []
    for seed, (name, size) in enumerate((("train", 90), ("val", 30), ("test", n))):
        part = make_split(name, size, classes=classes, positive=None, seed=seed, size=2)
        part.descriptors = {k: make(size) for k, make in columns.items()} or None
        parts.append(part)
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1, (n, len(classes))) + 1.2 * np.eye(len(classes))[parts[2].labels]
    return torch.from_numpy(special.softmax(z, 1)), parts[2], Task("mine", *parts[:2])


def words_of(text):
    return re.sub(r"<[^>]*>|base64,[^\"]*", " ", text)


def test_calibration_of_two_and_of_three_classes():
    scores, test, _ = reported()
    html, words = run_sections.calibration_part(scores, test, evaluate(scores, test))
    assert words.count(" to ") == 4 and "Brier score 0." in words and "<img" in html
    assert "slope, intercept" not in words and "slope" in words
    scores, test, _ = reported(classes=("a", "b", "<i>c"))
    html, words = run_sections.calibration_part(scores, test, evaluate(scores, test))
    assert "Slope and intercept are for two classes. Given instead" in html and "<i>c" not in html
    assert [f"expected of {c} " in words for c in test.classes] == [True] * 3
    assert "share of right calls" in html and "slope" not in words


def test_too_few_ill_ones_are_told():
    scores, test, task = reported(60)
    rows = np.concatenate([np.flatnonzero(test.labels == 0), np.flatnonzero(test.labels == 1)[:9]])
    few, kept = test[rows], scores[rows]
    html, words = run_sections.calibration_part(kept, few, evaluate(kept, few))
    assert "too few: 9 patients of the class malignant, 30 of others; 10 of both" in words
    assert "slope" not in words and words.endswith(").") and "Too few: 9" in html
    few.descriptors = {"site": np.array(["A"] * 39)}
    task.train.descriptors, task.val.descriptors = ({"site": np.full(n, "A")} for n in (90, 30))
    html, words = run_sections.subgroups_part(kept, few, task)
    assert words == "AUC by site. A: too few." and "30 benign, 9 malignant" in html


def test_subgroups_by_site_and_age():
    ages = lambda n: np.where(np.arange(n) % 9 == 0, np.nan, np.arange(n) % 61 + 20.0)
    sites = lambda n: np.array([["North", "South", "=East", ""][i // 2 % 4] for i in range(n)])
    scores, test, task = reported(site=sites, age=ages)
    html, words = run_sections.subgroups_part(scores, test, task)
    assert words.count("(0.") == 4 + 3 + 1 and "unknown: too few" not in words
    for name, rows in run_sections._sites(test.descriptors["site"]).items():
        part = test[np.flatnonzero(test.descriptors["site"] == name.replace("(no site given)", ""))]
        assert len(rows) == len(part) == 60
        value = evaluate(scores[rows], test[rows])["auc"][0]
        assert f"{name}: {value:.2f} (" in words
    limits = re.findall(r"up to ([\d.]+)", words)
    known = np.concatenate([s.descriptors["age"] for s in (task.train, task.val)])
    assert np.isclose((known[np.isfinite(known)] <= float(limits[0])).mean(), 1 / 3, atol=0.05)
    assert "of several groups one is always last" in html
    bare = dataclasses.replace(test, descriptors=None)
    assert "no column site or age" in run_sections.subgroups_part(scores, bare, task)[1]


def test_every_case_is_in_one_group():
    """Also where all known ages are equal, or none is known, and where there are many sites."""
    rng = np.random.default_rng(3)
    ages = np.append(rng.integers(0, 90, 200).astype(float), [np.nan] * 3)
    for known in (ages, ages[:1], np.full(5, np.nan), np.full(5, 40.0)):
        rows = np.concatenate(list(run_sections._bands(ages, known).values()))
        assert sorted(rows) == list(range(203))
    sites = np.array([f"site {k}" for k in rng.integers(0, 30, 200)] + [""])
    groups = run_sections._sites(sites)
    assert len(groups) == 13 and sorted(np.concatenate(list(groups.values()))) == list(range(201))


@pytest.mark.parametrize("known", [True, False])
def test_units_are_named(known):
    scores, test, task = reported(site=lambda n: np.full(n, "A"))
    if not known:
        test, task.train, task.val = (
            dataclasses.replace(s, patients=None) for s in (test, task.train, task.val)
        )
    html = run_sections.subgroups_part(scores, test, task)[0]
    assert (">patients<" in html) is known and (">images<" in html) is not known
    picture = run_sections.calibration_part(scores, test, evaluate(scores, test))[0]
    assert ("Each image counts as independent" in picture) is not known
