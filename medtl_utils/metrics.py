"""The metrics themselves, for many weightings of the cases at once: whole, resampled, one patient
left out."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from .data import Split

METRICS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "brier")
CHUNK = 2_000_000  # numbers in the largest temporary array: 16 MB


def checked(scores, split: Split) -> np.ndarray:
    """`scores` as float64 (N, n_classes), or a ValueError that says what is wrong with them."""
    probabilities = np.asarray(scores, dtype=np.float64)
    wanted = (len(split), len(split.classes))
    if probabilities.shape != wanted:
        raise ValueError(
            f"scores must have shape {wanted} for this split; got {probabilities.shape}."
        )
    if not np.isfinite(probabilities).all():
        raise ValueError(
            "scores hold NaN or infinite values. Look for a diverged training or NaN pixels."
        )
    if probabilities.min() < -1e-6 or np.abs(probabilities.sum(1) - 1).max() > 1e-3:
        raise ValueError(
            "scores must be probabilities: not negative, each row summing to 1. "
            "Pass predict(...), not logits."
        )
    if len(np.unique(split.labels)) < 2:
        raise ValueError(
            f"The {split.name} set holds one class only: AUC, sensitivity and specificity need two."
        )
    return probabilities


def units(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """For each image the number of its unit, and for each unit a stratum, its label.

    A unit is a patient; where patients are unknown, a group of near-copies, or a single image.
    """
    labels = split.labels.numpy()
    unit = np.unique(split.groups, return_inverse=True)[1]
    stratum = np.zeros(unit.max() + 1, int)
    np.maximum.at(stratum, unit, labels)
    return unit, stratum


def members(unit: np.ndarray) -> list[np.ndarray]:
    """For each unit, the numbers of its images."""
    return np.split(np.argsort(unit, kind="stable"), np.cumsum(np.bincount(unit))[:-1])


class Cases:
    """What the metrics need to know of one model on one split.

    `means`: name -> float (N,): the metrics that are means over cases, or over the cases of a
    class, are means of these.
    """

    def __init__(self, scores, split: Split, threshold: float):
        self.probabilities = checked(scores, split)
        self.labels = split.labels.numpy()
        self.present = np.unique(self.labels)
        self.two = self.probabilities.shape[1] == 2
        self.positive = 1 if split.positive is None else split.positive
        if self.two:
            p = self.probabilities[:, self.positive]
            predicted = np.where(p >= threshold, self.positive, 1 - self.positive)
            self.squared = (p - (self.labels == self.positive)) ** 2
        else:
            predicted = self.probabilities.argmax(1)
            one_hot = np.eye(self.probabilities.shape[1])[self.labels]
            self.squared = ((self.probabilities - one_hot) ** 2).sum(1)
        self.right = (predicted == self.labels).astype(float)
        self.ranked = [self.positive] if self.two else list(self.present)  # classes with an AUC

    def names(self) -> list[str]:
        return [m for m in METRICS if self.two or m not in ("sensitivity", "specificity")]

    def table(self, recall: dict, accuracy, brier, aucs: list) -> dict[str, np.ndarray]:
        """Put the pieces together: every metric, each an array with one value a weighting."""
        found = {
            "auc": np.mean(aucs, axis=0),
            "accuracy": accuracy,
            "balanced_accuracy": np.mean(list(recall.values()), axis=0),
            "brier": brier,
        }
        if self.two:
            found |= {
                "sensitivity": recall[self.positive],
                "specificity": recall[1 - self.positive],
            }
        return {name: found[name] for name in self.names()}


def weighted_auc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC for each row of `weights` (B, N): the share of positive-negative pairs in the right
    order, ties one half."""
    order = np.argsort(score, kind="stable")
    s, y, w = score[order], positive[order], weights[:, order]
    # equal scores share a group, which begins at `start`
    start = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1]]))
    neg = np.add.reduceat(w * ~y, start, axis=1)
    pos = np.add.reduceat(w * y, start, axis=1)
    below = np.cumsum(neg, axis=1) - neg
    with np.errstate(invalid="ignore"):
        return (pos * (below + 0.5 * neg)).sum(1) / (pos.sum(1) * neg.sum(1))


def weighted_table(cases: Cases, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric for every row of `weights` (B, N). Undefined values (no such class) are nan."""
    total = weights.sum(1)
    share = lambda event, of: (weights @ (event * of)) / (weights @ of.astype(float))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = {c: share(cases.right, cases.labels == c) for c in cases.present}
        accuracy, brier = weights @ cases.right / total, weights @ cases.squared / total
        aucs = [
            weighted_auc(cases.probabilities[:, c], cases.labels == c, weights)
            for c in cases.ranked
        ]
    return cases.table(recall, accuracy, brier, aucs)


def whole(cases: Cases) -> dict[str, float]:
    """Every metric on all cases."""
    return {
        k: float(v[0]) for k, v in weighted_table(cases, np.ones((1, len(cases.labels)))).items()
    }


# ---- resampling ----------------------------------------------------------------------------------


def bootstrap_counts(stratum: np.ndarray, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """uint16 (n_boot, units): how often each unit is drawn, with replacement, within its
    stratum."""
    counts = np.zeros((n_boot, len(stratum)), np.uint16)
    for value in np.unique(stratum):
        mine = np.flatnonzero(stratum == value)
        share, step = np.full(len(mine), 1 / len(mine)), max(1, CHUNK // len(mine))
        for first in range(0, n_boot, step):
            rows = slice(first, min(first + step, n_boot))
            counts[rows, mine] = rng.multinomial(len(mine), share, size=rows.stop - first)
    return counts


def bootstrap_tables(
    cases: Cases, unit: np.ndarray, counts: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, dict[int, np.ndarray]]]:
    """Every metric in every draw; and, for what is a mean over cases, the means of each class.

    Done a few draws at a time, so that 100,000 cases need no more memory than a few hundred MB.
    """
    metrics: dict[str, list] = {name: [] for name in cases.names()}
    classes: dict[str, dict] = {k: {c: [] for c in cases.present} for k in ("right", "squared")}
    step = max(1, CHUNK // len(unit))
    for first in range(0, len(counts), step):
        weights = counts[first : first + step].astype(float)[:, unit]
        for name, values in weighted_table(cases, weights).items():
            metrics[name].append(values)
        for c in cases.present:
            mine = cases.labels == c
            size = weights[:, mine].sum(1)
            for kind in classes:
                with np.errstate(invalid="ignore"):  # a draw without this class
                    mean = weights[:, mine] @ getattr(cases, kind)[mine] / size
                classes[kind][c].append(mean)
    joined = {
        kind: {c: np.concatenate(v) for c, v in by_class.items()}
        for kind, by_class in classes.items()
    }
    return {name: np.concatenate(v) for name, v in metrics.items()}, joined


def _auc_without(cases: Cases, c: int, unit: np.ndarray) -> np.ndarray:
    """AUC of class `c` against the rest with each unit left out in turn, from placement values;
    (units,)."""
    score, y, n_units = cases.probabilities[:, c], cases.labels == c, unit.max() + 1
    rank = stats.rankdata(score)
    wins = np.empty(len(y))  # pairs with the other class that each case wins (positive) or loses
    wins[y] = rank[y] - stats.rankdata(score[y])
    wins[~y] = y.sum() - (rank[~y] - stats.rankdata(score[~y]))
    of_unit = lambda values: np.bincount(unit, values, n_units)
    n_pos, n_neg = of_unit(y.astype(float)), of_unit((~y).astype(float))
    lost = of_unit(wins)
    for k in np.flatnonzero(
        (n_pos > 0) & (n_neg > 0)
    ):  # a pair inside one unit was taken off twice
        mine = unit == k
        gap = score[mine & y][:, None] - score[mine & ~y]
        lost[k] -= (gap > 0).sum() + 0.5 * (gap == 0).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return (wins[y].sum() - lost) / ((y.sum() - n_pos) * ((~y).sum() - n_neg))


def jackknife_tables(
    cases: Cases, unit: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, dict[int, np.ndarray]]]:
    """As `bootstrap_tables`, with each unit left out in turn; in closed form: no table of units by
    cases."""
    n_units = unit.max() + 1

    def mean_without(values: np.ndarray, of: np.ndarray) -> np.ndarray:
        sums = np.bincount(unit[of], values[of], n_units)
        sizes = np.bincount(unit[of], minlength=n_units)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (values[of].sum() - sums) / (of.sum() - sizes)

    everyone = np.ones(len(unit), bool)
    classes = {
        kind: {c: mean_without(getattr(cases, kind), cases.labels == c) for c in cases.present}
        for kind in ("right", "squared")
    }
    accuracy, brier = (mean_without(v, everyone) for v in (cases.right, cases.squared))
    aucs = [_auc_without(cases, c, unit) for c in cases.ranked]
    return cases.table(classes["right"], accuracy, brier, aucs), classes


# ---- DeLong --------------------------------------------------------------------------------------


def _placements(s: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each case, the share of the other class that lies on its right side; ties count 1/2."""
    rank = stats.rankdata(s)
    positive = (rank[y] - stats.rankdata(s[y])) / (~y).sum()
    return positive, 1 - (rank[~y] - stats.rankdata(s[~y])) / y.sum()


def _placement_variance(v10: np.ndarray, v01: np.ndarray, y: np.ndarray, unit: np.ndarray) -> float:
    """Variance of an AUC (or of a difference) from placement values summed by patient."""
    k = unit.max() + 1
    m, n = (len(np.unique(unit[c])) for c in (y, ~y))
    pos, neg = (np.bincount(unit[c], v - v.mean(), k) / len(v) for c, v in ((y, v10), (~y, v01)))
    return m / (m - 1) * pos @ pos + n / (n - 1) * neg @ neg + 2 * k / (k - 1) * pos @ neg


def delong(scores_a, labels, scores_b=None, patients=None, level: float = 0.95) -> dict[str, float]:
    """AUC with DeLong's interval on the logit scale; with `scores_b`, the paired difference on the
    same cases.

    All arrays (N,). `scores_a`, `scores_b`: higher = more positive, any scale. `labels`: True =
    positive. `patients`: None = all cases independent; else placement values are summed by patient
    (Obuchowski, Biometrics 53, 1997, 567). Returns auc, se, low, high; with `scores_b` also auc_b,
    difference, difference_low, difference_high, p (normal). Raises ValueError for shapes that
    differ, values not finite, fewer than two patients in a class, an AUC of 0 or 1. DeLong et al.,
    Biometrics 44 (1988) 837; by ranks as Sun & Xu, IEEE Signal Processing Letters 21 (2014) 1389.
    """
    y = np.asarray(labels).astype(bool)
    unit = np.arange(len(y))
    if patients is not None:
        unit = np.unique(np.asarray(patients), return_inverse=True)[1]
    sides = [np.asarray(s, dtype=np.float64) for s in (scores_a, scores_b) if s is not None]
    if len(unit) != len(y) or not all(s.shape == y.shape and np.isfinite(s).all() for s in sides):
        raise ValueError(
            "scores, labels and patients must be finite and of one shape (N,); "
            f"labels have {y.shape}."
        )
    m, n = (len(np.unique(unit[c])) for c in (y, ~y))
    if min(m, n) < 2:
        raise ValueError(
            f"DeLong needs at least two patients of each class; got {m} positive, {n} negative."
        )
    z, placed = stats.norm.ppf((1 + level) / 2), [_placements(s, y) for s in sides]
    aucs = [float(v10.mean()) for v10, _ in placed]
    se = float(_placement_variance(*placed[0], y, unit) ** 0.5)
    if not 0 < aucs[0] < 1:
        raise ValueError(
            f"The AUC is {aucs[0]:.0f}: the classes do not overlap and DeLong's variance is 0. "
            "Use evaluate(...)."
        )
    slope = aucs[0] * (1 - aucs[0])
    low, high = special.expit(special.logit(aucs[0]) + np.array([-z, z]) * se / slope)
    result = {"auc": aucs[0], "se": se, "low": low, "high": high}
    if scores_b is not None:
        both = [a - b for a, b in zip(*placed)]
        gap, se = aucs[0] - aucs[1], max(_placement_variance(*both, y, unit), 0.0) ** 0.5
        p = 2 * stats.norm.sf(abs(gap) / se) if se > 0 else float(gap == 0)
        ends = {"difference_low": gap - z * se, "difference_high": gap + z * se}
        result |= {"auc_b": aucs[1], "difference": gap, **ends, "p": p}
    return {name: float(value) for name, value in result.items()}
