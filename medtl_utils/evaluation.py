"""Metrics that never come without an interval, by patient where patients are known."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from .data import Split, Task

METRICS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "brier")


def _weighted_auc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC for each row of `weights` (B, N): the share of positive-negative pairs in the right order, ties one half."""
    order = np.argsort(score, kind="stable")
    s, y, w = score[order], positive[order], weights[:, order]
    # equal scores share a group, which begins at `start`
    start = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1]]))
    neg, pos = np.add.reduceat(w * ~y, start, axis=1), np.add.reduceat(w * y, start, axis=1)
    below = np.cumsum(neg, axis=1) - neg
    with np.errstate(invalid="ignore"):
        return (pos * (below + 0.5 * neg)).sum(1) / (pos.sum(1) * neg.sum(1))


def _metric_table(
    probabilities: np.ndarray, labels: np.ndarray, positive: int | None, threshold: float, weights: np.ndarray
) -> dict:
    """Every metric for every row of `weights` (B, N); a dict of arrays (B,). Undefined values (no such class) are nan."""
    n_classes = probabilities.shape[1]
    two = n_classes == 2
    if two:
        positive = 1 if positive is None else positive
        predicted = np.where(probabilities[:, positive] >= threshold, positive, 1 - positive)
    else:
        predicted = probabilities.argmax(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(1)
        right = (predicted == labels).astype(float)
        recall = {c: (weights @ (right * (labels == c))) / (weights @ (labels == c).astype(float)) for c in np.unique(labels)}
        one_hot = np.eye(n_classes)[labels]
        squared = (probabilities[:, positive] - one_hot[:, positive]) ** 2 if two else ((probabilities - one_hot) ** 2).sum(1)
        aucs = [_weighted_auc(probabilities[:, c], labels == c, weights) for c in ([positive] if two else np.unique(labels))]
        table = {
            "auc": np.mean(aucs, axis=0),
            "accuracy": weights @ right / total,
            "balanced_accuracy": np.mean(list(recall.values()), axis=0),
            "brier": weights @ squared / total,
        }
    if two:
        table |= {"sensitivity": recall[positive], "specificity": recall[1 - positive]}
    return {name: table[name] for name in METRICS if name in table}


def _units(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Sampling units: for each image the number of its patient (or its own), and for each unit its stratum (a label)."""
    labels = split.labels.numpy()
    unit = np.arange(len(labels)) if split.patients is None else np.unique(split.patients, return_inverse=True)[1]
    stratum = np.zeros(unit.max() + 1, int)
    np.maximum.at(stratum, unit, labels)
    return unit, stratum


def _bootstrap_weights(stratum: np.ndarray, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """(n_boot, units) counts of how often each unit is drawn, with replacement, within its stratum."""
    counts = np.zeros((n_boot, len(stratum)))
    for value in np.unique(stratum):
        mine = np.flatnonzero(stratum == value)
        counts[:, mine] = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=n_boot)
    return counts


def _bca(value: float, boot: np.ndarray, jack: np.ndarray, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated interval; Efron, "Better bootstrap confidence intervals", JASA 82 (1987) 171."""
    boot, jack = boot[np.isfinite(boot)], jack[np.isfinite(jack)]
    share = np.clip((np.mean(boot < value) + np.mean(boot <= value)) / 2, 1 / (2 * len(boot)), 1 - 1 / (2 * len(boot)))
    z0, away = stats.norm.ppf(share), jack.mean() - jack
    spread = (away**2).sum() ** 1.5
    acceleration = (away**3).sum() / (6 * spread) if spread > 0 else 0.0
    z = z0 + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(boot, stats.norm.cdf(z0 + z / (1 - acceleration * z)))
    return float(low), float(high)


def _checked(scores: torch.Tensor, split: Split) -> np.ndarray:
    probabilities = np.asarray(scores, dtype=np.float64)
    if probabilities.shape != (len(split), len(split.classes)):
        raise ValueError(f"scores must have shape {(len(split), len(split.classes))} for this split; got {probabilities.shape}.")
    if not np.isfinite(probabilities).all():
        raise ValueError("scores hold NaN or infinite values. Look for a diverged training or NaN pixels.")
    if probabilities.min() < -1e-6 or np.abs(probabilities.sum(1) - 1).max() > 1e-3:
        raise ValueError("scores must be probabilities: not negative, each row summing to 1. Pass predict(...), not logits.")
    if len(torch.unique(split.labels)) < 2:
        raise ValueError(f"The {split.name} set holds one class only: AUC, sensitivity and specificity need two.")
    return probabilities


def evaluate(
    scores: torch.Tensor, split: Split, n_boot: int = 1000, seed: int = 0, threshold: float = 0.5, level: float = 0.95
) -> dict[str, tuple[float, float, float]]:
    """Metrics of one model on one split, each as (value, low, high) with a 95 % interval.

    `scores`: class probabilities (N, n_classes) as from `predict`. `threshold`: a case is called positive from this
    probability on; choose it on validation. auc, accuracy, balanced_accuracy, sensitivity, specificity, brier (for more
    than two classes: macro one-vs-rest AUC, no sensitivity and specificity). Intervals: BCa bootstrap that draws whole
    patients within their class (images, where the source knows no patients). Where all draws agree, as at a
    sensitivity of 1, the exact binomial interval over patients stands in. They hold for one trained model: how much
    another training seed would change is not in them; that is `compare`'s business.
    Raises ValueError for scores that are no probabilities or do not fit the split, and for a split of one class.
    """
    probabilities = _checked(scores, split)
    labels = split.labels.numpy()
    unit, stratum = _units(split)
    counts = _bootstrap_weights(stratum, n_boot, np.random.default_rng(seed))
    leave_one_out = 1 - np.eye(len(stratum))
    whole, boot, jack = (
        _metric_table(probabilities, labels, split.positive, threshold, w[:, unit])
        for w in (np.ones((1, len(stratum))), counts, leave_one_out)
    )
    result = {}
    for name in whole:
        value = float(whole[name][0])
        if np.ptp(boot[name][np.isfinite(boot[name])]) > 1e-12:
            low, high = _bca(value, boot[name], jack[name], level)
        else:
            low, high = _exact(name, value, split, stratum, level)
        result[name] = (value, low, high)
    return result


def _exact(name: str, value: float, split: Split, stratum: np.ndarray, level: float) -> tuple[float, float]:
    """Clopper-Pearson interval of a share that came out all right or all wrong, over the patients it rests on."""
    positive = 1 if split.positive is None else split.positive
    sizes = np.bincount(stratum, minlength=len(split.classes))
    n = {"sensitivity": sizes[positive], "specificity": sizes[1 - positive]}.get(name, sizes[sizes > 0].min())
    edge = float(((1 - level) / 2) ** (1 / n))
    if name == "brier":
        return value, value
    return (edge, 1.0) if value > 0.5 else (0.0, 1 - edge)


def compare(
    scores_a: list[torch.Tensor],
    scores_b: list[torch.Tensor],
    split: Split,
    metric: str = "auc",
    level: float = 0.95,
    threshold: float = 0.5,
) -> dict[str, float]:
    """Paired difference a - b of a metric, over training seeds and patients at once.

    `scores_a`, `scores_b`: one (N, n_classes) tensor of probabilities a seed, pair by pair, >= 2 pairs.
    The interval crosses both sources of chance: variance = jackknife over patients of the mean difference
    + variance of the differences over seeds / number of seeds, with a t quantile (Welch-Satterthwaite). Seed-by-patient
    interaction is counted in both, so it errs on the wide side.
    Returns a, b (means), difference, low, high, sd_seeds (SD of the difference over seeds), se_patients, n_seeds, p.
    """
    if len(scores_a) != len(scores_b) or len(scores_a) < 2:
        raise ValueError(
            f"compare needs the same number of seeds on both sides, at least 2; got {len(scores_a)} and {len(scores_b)}."
        )
    labels, (unit, stratum) = split.labels.numpy(), _units(split)
    weights = np.concatenate([np.ones((1, len(stratum))), 1 - np.eye(len(stratum))])[:, unit]
    tables = [
        [_metric_table(_checked(s, split), labels, split.positive, threshold, weights) for s in side]
        for side in (scores_a, scores_b)
    ]
    if metric not in tables[0][0]:
        raise ValueError(f"Unknown metric {metric!r}. Choose one of: {', '.join(tables[0][0])}.")
    a, b = (np.array([t[metric] for t in side]) for side in tables)  # (seeds, 1 + units)
    difference, n_seeds, n_units = a - b, len(scores_a), len(stratum)
    mean, jack = difference[:, 0].mean(), difference[:, 1:].mean(0)
    var_patients = (n_units - 1) / n_units * ((jack - jack.mean()) ** 2).sum()
    var_seeds = difference[:, 0].var(ddof=1) / n_seeds
    variance = var_patients + var_seeds
    if variance == 0:
        low = high = mean
        p = 1.0 if mean == 0 else 0.0
    else:
        freedom = variance**2 / (var_patients**2 / (n_units - 1) + var_seeds**2 / (n_seeds - 1))
        half = stats.t.ppf((1 + level) / 2, freedom) * variance**0.5
        low, high, p = mean - half, mean + half, 2 * stats.t.sf(abs(mean) / variance**0.5, freedom)
    return {
        "a": float(a[:, 0].mean()),
        "b": float(b[:, 0].mean()),
        "difference": float(mean),
        "low": float(low),
        "high": float(high),
        "sd_seeds": float(difference[:, 0].std(ddof=1)),
        "se_patients": float(var_patients**0.5),
        "n_seeds": n_seeds,
        "p": float(p),
    }


def report(result: dict[str, tuple[float, float, float]], split: Split, task: Task) -> str:
    """The final report as text: what was tested, each metric with its interval, and how often the test set was opened."""
    unit = "images (patients unknown)" if split.patients is None else "patients"
    lines = [f"Task {task.name!r}, {split}", f"95 % intervals: BCa bootstrap over {unit}", ""]
    lines += [
        f"  {name.replace('_', ' '):18s} {value:.3f}  ({low:.3f} to {high:.3f})" for name, (value, low, high) in result.items()
    ]
    reasons = "; ".join(f"{o['opening']}. {o['reason']}" for o in task.openings) or "never"
    return "\n".join([*lines, "", f"Test set opened {len(task.openings)} time(s) in this run: {reasons}"])
