"""What a repeated, grouped cross-validation says, and how sure it is.

A value is taken per fold, then averaged over draws, folds and repetitions: scores of different
networks are never pooled. Two things are uncertain: which groups of images were tested (jackknife
over groups) and how the sources happened to be trained (variance between repetitions, one training
each). Their variances add; degrees of freedom after Satterthwaite, Biometrics Bulletin 2 (1946)
110. Repetitions test the same images again: they are averaged, and never counted as more images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Fold:
    """What one fold gave: `scores` (draws, images) of disease, `positive` bool and `group` int."""

    scores: np.ndarray
    positive: np.ndarray
    group: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A value for each repetition, (R,), and the same without each of the groups, (R, groups)."""

    values: np.ndarray
    without: np.ndarray

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate(self.values - other.values, self.without - other.without)


def auc_without(fold: Fold, draw: int) -> tuple[float, np.ndarray]:
    """AUC of one draw, ties one half, and AUC without each group of the fold, in `np.unique` order.

    Exact: from the sums over pairs of a positive and a negative image.
    """
    score = fold.scores[draw]
    diseased, healthy = score[fold.positive], score[~fold.positive]
    wins = (diseased[:, None] > healthy) + 0.5 * (diseased[:, None] == healthy)
    member = np.unique(fold.group)[:, None] == fold.group
    ours, theirs = member[:, fold.positive].astype(float), member[:, ~fold.positive].astype(float)
    lost = ours @ wins.sum(1) + theirs @ wins.sum(0) - ((ours @ wins) * theirs).sum(1)
    pairs = (len(diseased) - ours.sum(1)) * (len(healthy) - theirs.sum(1))
    return float(wins.mean()), (wins.sum() - lost) / pairs


def metric_without(
    metric: Callable[[np.ndarray, np.ndarray], float], fold: Fold, draw: int
) -> tuple[float, np.ndarray]:
    """As `auc_without`, for any metric(scores, positive), by leaving out each group in turn."""
    score, positive = fold.scores[draw], fold.positive
    kept = (fold.group != one for one in np.unique(fold.group))
    return metric(score, positive), np.array([metric(score[k], positive[k]) for k in kept])


def sensitivity_at_90(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of diseased above the threshold that at least 90 % of the healthy do not exceed."""
    threshold = np.quantile(score[~positive], 0.9, method="higher")
    return float((score[positive] > threshold).mean())


def brier(score: np.ndarray, positive: np.ndarray) -> float:
    return float(((score - positive) ** 2).mean())


def calibration_slope(score: np.ndarray, positive: np.ndarray) -> float:
    """Slope of the logistic regression of the outcome on the score's logit (Cox 1958); 1 is best.

    Newton's method; scores are kept 1e-6 away from 0 and 1.
    """
    p = np.clip(score.astype(np.float64), 1e-6, 1 - 1e-6)
    x = np.stack([np.ones(len(p)), np.log(p / (1 - p))], 1)
    beta = np.array([0.0, 0.5])
    for _ in range(25):
        mean = 1 / (1 + np.exp(-x @ beta))
        step = np.linalg.solve(
            x.T @ (x * (mean * (1 - mean))[:, None]) + 1e-9 * np.eye(2), x.T @ (positive - mean)
        )
        beta = beta + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return float(beta[1])


METRICS: dict[str, Callable[[Fold, int], tuple[float, np.ndarray]]] = {
    "auc": auc_without,
    "sensitivity at 90 % specificity": lambda f, d: metric_without(sensitivity_at_90, f, d),
    "brier": lambda f, d: metric_without(brier, f, d),
    "calibration slope": lambda f, d: metric_without(calibration_slope, f, d),
}


def estimate(repetitions: Sequence[Sequence[Fold]], metric: str = "auc") -> Estimate:
    """The mean over draws and folds for each repetition, with and without each group.

    `repetitions`: for each, its folds; every group lies in one fold of each repetition. Leaving a
    group out changes the value of its own fold; the networks stay as they were trained.
    """
    groups = np.unique(np.concatenate([fold.group for fold in repetitions[0]]))
    values, without = [], []
    for folds in repetitions:
        level, change = [], np.zeros(len(groups))
        for fold in folds:
            found = [METRICS[metric](fold, draw) for draw in range(len(fold.scores))]
            here = float(np.mean([value for value, _ in found]))
            rest = np.mean([without for _, without in found], 0)
            change[np.searchsorted(groups, np.unique(fold.group))] = (rest - here) / len(folds)
            level.append(here)
        values.append(np.mean(level))
        without.append(values[-1] + change)
    return Estimate(np.array(values), np.array(without))


def summary(found: Estimate, level: float = 0.95) -> dict[str, float]:
    """Mean, interval, two-sided p against 0, and where the uncertainty comes from.

    "sd_groups": from the groups of images; "sd_trainings": of one training among trainings. Of a
    single repetition the interval covers the images alone, and "sd_trainings" is missing.
    """
    n_repetitions, n_groups = found.without.shape
    jack = found.without.mean(0)
    images = (n_groups - 1) / n_groups * float(((jack - jack.mean()) ** 2).sum())
    once = n_repetitions == 1
    trainings = 0.0 if once else float(found.values.var(ddof=1)) / n_repetitions
    variance, mean = images + trainings, float(found.values.mean())
    between = 0.0 if once else trainings**2 / (n_repetitions - 1)
    df = variance**2 / (images**2 / (n_groups - 1) + between)
    half = float(stats.t.ppf(0.5 + level / 2, df)) * variance**0.5
    row = {
        "value": mean,
        "low": mean - half,
        "high": mean + half,
        "p": float(2 * stats.t.sf(abs(mean) / variance**0.5, df)),
        "df": float(df),
        "sd_groups": images**0.5,
    }
    return row if once else row | {"sd_trainings": float(found.values.std(ddof=1))}


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values, (n,) (Scandinavian Journal of Statistics 6 (1979) 65)."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted
