"""The estimate of the evidence: jackknife over groups, variance between trainings, Holm."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from studies import evidence_stats
from studies.evidence_stats import METRICS, Estimate, Fold, estimate, holm, summary


def a_fold(seed: int, images: int = 40, draws: int = 3, first_group: int = 0) -> Fold:
    """Scores with ties, groups of one to three images, some with both outcomes."""
    rng = np.random.default_rng(seed)
    group = first_group + np.sort(rng.integers(0, images // 2, images))
    positive = np.arange(images) % 3 == 0
    scores = np.round(rng.random((draws, images)) * 0.6 + 0.3 * positive, 2)
    return Fold(scores, positive, group)


def by_hand(fold: Fold, metric: str, draw: int, left_out: int | None) -> float:
    kept = fold.group != left_out
    score, positive = fold.scores[draw, kept], fold.positive[kept]
    if metric == "auc":
        return roc_auc_score(positive, score)
    if metric == "brier":
        return np.mean((score - positive) ** 2)
    if metric == "calibration slope":
        x = np.log(score.clip(1e-6, 1 - 1e-6) / (1 - score.clip(1e-6, 1 - 1e-6)))
        fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], positive)
        return fit.coef_[0, 0]
    healthy = np.sort(score[~positive])
    threshold = next(t for t in healthy if (healthy <= t).mean() >= 0.9)
    return (score[positive] > threshold).mean()


def agrees(metric: str, function) -> bool:
    for seed in range(3):
        fold = a_fold(seed)
        value, without = function(fold, 1)
        wanted = [by_hand(fold, metric, 1, one) for one in np.unique(fold.group)]
        if not np.allclose([value, *without], [by_hand(fold, metric, 1, None), *wanted], atol=1e-4):
            return False
    return True


def diseased_only(fold: Fold, draw: int):
    """Planted: with a group only its diseased images are left out."""
    value, without = evidence_stats.auc_without(fold, draw)
    diseased = np.where(fold.positive, fold.group, -1)
    groups = np.unique(fold.group)
    there = np.isin(groups, diseased)
    with np.errstate(invalid="ignore"):  # no healthy image is left without "group" -1
        changed = evidence_stats.auc_without(dataclasses.replace(fold, group=diseased), draw)[1]
    rest = np.full(len(groups), value)
    rest[there] = changed[1:]
    return value, rest


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_equal_those_by_hand(metric):
    assert agrees(metric, METRICS[metric])
    assert not agrees(metric, lambda fold, draw: METRICS[metric](fold, 0))  # planted: another draw


def test_both_outcomes_of_a_group_are_left_out():
    assert not agrees("auc", diseased_only)


def repetitions(n: int = 2) -> list[list[Fold]]:
    """The same 60 groups, dealt anew to three folds in each repetition."""
    found = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        part = rng.permutation(60) % 3
        positive = np.arange(120) % 2 == np.arange(120) % 4 // 2
        scores = rng.random((2, 120)) * 0.7 + 0.3 * positive
        group = np.arange(120) // 2
        rows = [part[group] == k for k in range(3)]
        found.append([Fold(scores[:, r], positive[r], group[r]) for r in rows])
    return found


def jackknife_agrees(function) -> bool:
    """Against leaving a group out of everything and starting again."""
    whole = repetitions()
    cut = lambda f, g: Fold(
        f.scores[:, f.group != g], f.positive[f.group != g], f.group[f.group != g]
    )
    level = lambda folds: np.mean([[by_hand(f, "auc", d, None) for d in (0, 1)] for f in folds])
    wanted = [[level([cut(f, g) for f in folds]) for g in range(60)] for folds in whole]
    found = function(whole)
    return np.allclose(found.values, [level(folds) for folds in whole]) and np.allclose(
        found.without, wanted
    )


def pooled(whole: list[list[Fold]]) -> Estimate:
    """Planted: one AUC over the scores of all folds' networks."""
    one = lambda folds: Fold(
        np.concatenate([f.scores for f in folds], 1),
        np.concatenate([f.positive for f in folds]),
        np.concatenate([f.group for f in folds]),
    )
    return estimate([[one(folds)] for folds in whole])


def test_leaving_a_group_out_is_starting_again_without_it():
    assert jackknife_agrees(estimate) and not jackknife_agrees(pooled)


def coverage(summarise, runs: int = 400) -> float:
    """How often the interval holds the truth.

    Each group of images has an effect of its own, which every repetition meets again; each training
    of the source has one, too, and each repetition one more on every group.
    """
    rng, hits = np.random.default_rng(5), 0
    for _ in range(runs):
        group = rng.normal(0.05, 1.0, 80) * 0.3
        training = rng.normal(0, 0.05, 3)
        each = group + training[:, None] + rng.normal(0, 0.1, (3, 80))
        without = (each.sum(1, keepdims=True) - each) / 79
        found = summarise(Estimate(each.mean(1), without))
        hits += found["low"] <= 0.015 <= found["high"]
    return hits / runs


def as_more_images(found: Estimate) -> dict:
    """Planted: three repetitions count as three times as many groups; trainings do not vary."""
    away = found.without - found.without.mean(1, keepdims=True)
    error = (away**2).sum() ** 0.5 / 3
    return {"low": found.values.mean() - 2 * error, "high": found.values.mean() + 2 * error}


def test_the_interval_holds_the_truth_as_often_as_it_says():
    assert 0.93 <= coverage(summary) <= 0.99
    assert coverage(as_more_images) < 0.9


def covers_the_images_alone(summarise) -> bool:
    """Of one repetition: Student's interval over groups, and not a word on other trainings."""
    each = np.random.default_rng(6).normal(0.05, 0.3, (1, 40))
    without = (each.sum(1, keepdims=True) - each) / 39
    found = summarise(Estimate(each.mean(1), without))
    wanted = stats.ttest_1samp(each[0], 0)
    ends = wanted.confidence_interval(0.95)
    got = [found[key] for key in ("value", "low", "high", "p", "df")]
    return "sd_trainings" not in found and np.allclose(
        got, [each.mean(), ends.low, ends.high, wanted.pvalue, 39]
    )


def as_two_trainings(found: Estimate) -> dict:
    """Planted: the one training is counted twice, and trainings seem not to vary."""
    twice = Estimate(found.values.repeat(2), found.without.repeat(2, axis=0))
    return summary(twice)


def as_if_trainings_varied(found: Estimate) -> dict:
    """Planted: a second training, made up."""
    other = Estimate(np.append(found.values, found.values + 0.1), found.without.repeat(2, axis=0))
    return {k: v for k, v in summary(other).items() if k != "sd_trainings"}


def test_one_repetition_says_nothing_of_other_trainings():
    assert covers_the_images_alone(summary)
    assert not covers_the_images_alone(as_two_trainings)
    assert not covers_the_images_alone(as_if_trainings_varied)
    assert "sd_trainings" in summary(estimate(repetitions()))


def test_holm_on_a_known_example():
    assert np.allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert np.allclose(holm([0.5, 0.9]), [1.0, 1.0])
