"""An interval always holds its value, and covers the truth; also where a bootstrap knows
nothing."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from medtl_utils import evaluation, intervals
from medtl_utils.data import Split
from medtl_utils.evaluation import aggregate, compare, evaluate, mean_over_seeds
from medtl_utils.metrics import Cases, jackknife_tables, units, weighted_table
from tests.conftest import ROOT


def split_of(labels, patients=None, classes=2, positive=1) -> Split:
    images = torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8)
    people = None if patients is None else np.array([f"p{k}" for k in patients])
    positive = positive if classes == 2 else None
    names = tuple("abcd"[:classes])
    return Split("test", images, torch.tensor(labels), names, positive, people)


def two_columns(p) -> torch.Tensor:
    return torch.tensor(np.stack([1 - np.asarray(p), p], 1))


def random_case(rng) -> tuple[torch.Tensor, Split]:
    """Few or many cases, two or three classes, patients or none, coarse, constant or perfect
    scores."""
    classes, n = int(rng.integers(2, 4)), int(rng.integers(4, 60))
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    patients = rng.integers(0, n, n) if rng.random() < 0.5 else None
    z = rng.normal(size=(n, classes)) * rng.choice([0.0, 0.5, 2.0])
    z[np.arange(n), labels] += rng.choice([0.0, 1.0, 30.0])
    z = np.round(z, int(rng.integers(0, 3))) + rng.choice([0.0, 5.0]) * (np.arange(classes) == 0)
    return torch.tensor(special.softmax(z, axis=1)), split_of(labels, patients, classes)


def outside(result: dict) -> list:
    """Metrics whose value does not lie inside its interval, or whose interval leaves 0..1 (Brier:
    0..2)."""
    top = {"brier": 2.0}
    return [
        (name, row)
        for name, row in result.items()
        if not 0 <= row[1] <= row[0] <= row[2] <= top.get(name, 1.0) + 1e-12
    ]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_an_interval_holds_its_value_and_stays_on_the_scale(seed):
    scores, split = random_case(np.random.default_rng(seed))
    assert outside(evaluate(scores, split, n_boot=60)) == []
    for metric in ("auc", "accuracy", "balanced_accuracy", "brier"):
        row = mean_over_seeds([scores, scores.roll(1, 0)], split, metric)
        assert outside({metric: (row["value"], row["low"], row["high"])}) == []


def old_interval(name, value, cases, boot, jack, n_patients, level):
    """The mistake: all draws agree, so the share is thought to be 0 or 1; the value is clamped in
    later."""
    if not intervals.no_spread(boot[0][name]):
        return intervals.bca(value, boot[0][name], jack[0][name], level)
    sizes = {"sensitivity": cases.positive, "specificity": 1 - cases.positive}
    n = n_patients[sizes[name]] if name in sizes else min(n_patients.values())
    edge = ((1 - level) / 2) ** (1 / n)
    return (edge, 1.0) if value > 0.5 else (0.0, 1 - edge)


def test_the_interval_test_bites(monkeypatch):
    """The mistake is hidden by the clamp of `evaluate`; without the clamp the value lies
    outside."""
    split = split_of(np.repeat([0, 1], [36, 24]))
    scores = two_columns(np.full(60, 0.2))
    assert outside(evaluate(scores, split)) == []
    cases, (unit, _) = Cases(scores, split, 0.5), units(split)
    counts = np.ones((20, 60))
    boot, jack = evaluation.bootstrap_tables(cases, unit, counts), jackknife_tables(cases, unit)
    low, high = old_interval("accuracy", 0.6, cases, boot, jack, {0: 36, 1: 24}, 0.95)
    assert not low <= 0.6 <= high


def test_everybody_called_benign():
    """36 benign and 24 malignant: the exact intervals of both classes, combined; and an AUC of one
    half."""
    split = split_of(np.repeat([0, 1], [36, 24]))
    result = evaluate(two_columns(np.full(60, 0.2)), split)
    miss = stats.binomtest(0, 24).proportion_ci().high
    found = stats.binomtest(36, 36).proportion_ci().low
    assert result["sensitivity"] == pytest.approx((0, 0, miss))
    assert result["specificity"] == pytest.approx((1, found, 1))
    want = (0.6, 0.6 - 0.6 * (1 - found), 0.6 + 0.4 * miss)
    assert result["accuracy"] == pytest.approx(want)
    assert result["balanced_accuracy"] == pytest.approx((0.5, found / 2, 0.5 + miss / 2))
    value, low, high = result["auc"]
    assert value == 0.5 and 0.2 < low < 0.35 and 0.65 < high < 0.8


def test_three_classes_that_are_all_right():
    split = split_of(np.repeat([0, 1, 2], 10), classes=3)
    result = evaluate(torch.eye(3).repeat_interleave(10, 0), split)
    assert all(row[2] > row[1] for row in result.values())
    assert result["brier"][0] == 0 and 0 < result["brier"][2] < 1


def coverage(n: int, auc: float, cut: float, runs: int = 300) -> dict[str, float]:
    """Share of 95 % intervals that hold the truth: normal scores, positive from `cut` on."""
    n_pos = round(0.27 * n) if n == 156 else round(0.4 * n)
    y, effect = np.repeat([1, 0], [n_pos, n - n_pos]), 2**0.5 * stats.norm.ppf(auc)
    share, split, rng = n_pos / n, split_of(y), np.random.default_rng(n)
    sensitivity, specificity = stats.norm.sf(cut - effect), stats.norm.cdf(cut)
    truth = {
        "auc": auc,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": share * sensitivity + (1 - share) * specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
    }
    hits = dict.fromkeys(truth, 0)
    for _ in range(runs):
        p = special.expit(effect * y + rng.normal(size=n) - cut)
        result = evaluate(two_columns(p), split, n_boot=400, seed=int(rng.integers(1e9)))
        for name, value in truth.items():
            hits[name] += result[name][1] <= value <= result[name][2]
    return {name: count / runs for name, count in hits.items()}


# many classifiers call nearly everybody benign: there most draws of a bootstrap agree
SITUATIONS = [(n, auc, cut) for n in (20, 60, 156) for auc, cut in ((0.92, 1.0), (0.75, 3.0))]
LEAST = 0.92  # 95 %, less what 300 runs leave to chance


@pytest.mark.slow
@pytest.mark.parametrize(("n", "auc", "cut"), SITUATIONS)
def test_intervals_cover_the_truth(n, auc, cut):
    found = coverage(n, auc, cut)
    assert min(found.values()) >= LEAST, found


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 60, 156])
def test_the_coverage_test_bites(n, monkeypatch):
    """Planted: the old intervals, clamped so that they hold their value, and still do not cover."""
    monkeypatch.setattr(evaluation, "interval_of", old_interval)
    found = coverage(n, 0.75, 3.0)
    assert min(found.values()) < LEAST - 0.1, found


@pytest.mark.slow
def test_auc_at_the_size_of_breastmnist():
    """42 positive and 114 negative, true AUC .92: 93 to 97 % of 2,000 intervals."""
    assert 0.93 <= coverage(156, 0.92, 1.0, runs=2000)["auc"] <= 0.97


# ---- the jackknife in closed form ---------------------------------------------------------------


def jackknife_by_hand(scores, split, table=jackknife_tables) -> bool:
    """Against a table of weights, one row for each unit that is left out."""
    cases, (unit, stratum) = Cases(scores, split, 0.5), units(split)
    want = weighted_table(cases, (1 - np.eye(len(stratum)))[:, unit])
    got = table(cases, unit)[0]
    return all(np.allclose(got[k], want[k], atol=1e-12, equal_nan=True) for k in want)


@pytest.mark.parametrize("seed", range(12))
def test_the_jackknife_leaves_out_one_unit_at_a_time(seed):
    assert jackknife_by_hand(*random_case(np.random.default_rng(seed)))


def test_the_jackknife_test_bites():
    """Planted: images are left out where patients should be."""
    rng = np.random.default_rng(0)
    split = split_of(rng.integers(0, 2, 30), np.arange(30) // 3)
    scores = two_columns(rng.random(30))
    by_image = lambda cases, unit: jackknife_tables(cases, np.arange(len(unit)))
    assert jackknife_by_hand(scores, split)
    with pytest.raises(ValueError):  # 30 values where 10 are wanted
        jackknife_by_hand(scores, split, by_image)
    twice = lambda cases, unit: ({k: v[::-1] for k, v in jackknife_tables(cases, unit)[0].items()},)
    assert not jackknife_by_hand(scores, split, twice)


def test_draws_in_chunks_are_the_same_draws(monkeypatch):
    rng = np.random.default_rng(1)
    split, scores = split_of(rng.integers(0, 2, 50)), two_columns(rng.random(50))
    want = np.array(list(evaluate(scores, split, n_boot=200).values()))
    monkeypatch.setattr("medtl_utils.metrics.CHUNK", 333)
    assert np.allclose(list(evaluate(scores, split, n_boot=200).values()), want, atol=1e-12)


LARGE = """
import resource, sys, numpy as np, torch
from medtl_utils.data import Split
from medtl_utils.evaluation import compare, evaluate
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
n, rng = int(sys.argv[1]), np.random.default_rng(0)
labels = torch.tensor((rng.random(n) < 0.3).astype(int))
split = Split("test", torch.zeros(n, 1, 1, 1, dtype=torch.uint8), labels, ("a", "b"), 1)
p = torch.rand(n, generator=torch.Generator().manual_seed(0))
scores, before = torch.stack([1 - p, p], 1), peak()
evaluate(scores, split)
compare([scores] * 5, [scores.flip(0)] * 5, split)
print(peak() - before)
"""


@pytest.mark.parametrize("n", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_memory_for_many_patients(n):
    """Less than 1 GB beyond what the libraries take; a table of patients by patients would need 80
    GB."""
    command = [sys.executable, "-c", LARGE, str(n)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < (0.4 if n == 10_000 else 1.0)


# ---- means over seeds, one score a patient ------------------------------------------------------


def test_mean_over_seeds_is_compares_interval_on_the_logit_scale():
    rng = np.random.default_rng(2)
    labels, people = np.arange(80) // 2 % 2, np.arange(80) // 2
    split = split_of(labels, people)
    scores = [two_columns(special.expit(labels + rng.normal(size=80))) for _ in range(4)]
    row = mean_over_seeds(scores, split)
    flat = compare(scores, [two_columns(np.full(80, 0.5))] * 4, split)
    slope = row["value"] * (1 - row["value"])
    reach = (flat["high"] - flat["low"]) / 2 / slope
    want = special.expit(special.logit(row["value"]) + np.array([-reach, reach]))
    assert row["value"] == pytest.approx(flat["a"]) and row["n_seeds"] == 4
    assert [row["low"], row["high"]] == pytest.approx(want)
    assert row["se_patients"] == pytest.approx(flat["se_patients"])


def test_mean_over_seeds_of_perfect_scores():
    split = split_of(np.repeat([0, 1], [30, 12]))
    row = mean_over_seeds([two_columns(split.labels.double().numpy())] * 3, split)
    low = stats.binomtest(12, 12).proportion_ci().low
    assert (row["value"], row["low"], row["high"]) == pytest.approx((1, low, 1))
    with pytest.raises(ValueError, match="at least 2 seeds; got 1"):
        mean_over_seeds([two_columns(np.full(42, 0.5))], split)


def test_one_score_a_patient():
    split = split_of([0, 0, 1, 0, 1], [3, 3, 1, 1, 2])
    scores = two_columns(np.array([0.2, 0.4, 0.9, 0.5, 0.6]))
    mean, people = aggregate(scores, split)
    assert people.patients.tolist() == ["p1", "p2", "p3"] and people.labels.tolist() == [1, 1, 0]
    assert mean[:, 1].tolist() == pytest.approx([0.7, 0.6, 0.3])
    assert aggregate(scores, split, "max")[0][:, 1].tolist() == pytest.approx([0.9, 0.6, 0.4])
    assert evaluate(mean, people)["auc"][0] == 1
    with pytest.raises(ValueError, match="knows no patients"):
        aggregate(scores, split_of([0, 0, 1, 0, 1]))
    with pytest.raises(ValueError, match='"mean", or "max"'):
        aggregate(scores, split, "median")
    three = split_of([0, 2, 1], [0, 0, 1], classes=3)
    with pytest.raises(ValueError, match="patient p0 have different labels"):
        aggregate(torch.full((3, 3), 1 / 3), three)
