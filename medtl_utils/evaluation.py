"""Metrics that never come without an interval, by patient where patients are known."""

from __future__ import annotations

import textwrap

import numpy as np
import torch
from scipy import special, stats

from .data import Split, Task, check_disjoint

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
    probabilities: np.ndarray,
    labels: np.ndarray,
    positive: int | None,
    threshold: float,
    weights: np.ndarray,
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
        recall = {
            c: (weights @ (right * (labels == c))) / (weights @ (labels == c).astype(float))
            for c in np.unique(labels)
        }
        one_hot = np.eye(n_classes)[labels]
        squared = (
            (probabilities[:, positive] - one_hot[:, positive]) ** 2
            if two
            else ((probabilities - one_hot) ** 2).sum(1)
        )
        aucs = [
            _weighted_auc(probabilities[:, c], labels == c, weights)
            for c in ([positive] if two else np.unique(labels))
        ]
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
    unit = (
        np.arange(len(labels))
        if split.patients is None
        else np.unique(split.patients, return_inverse=True)[1]
    )
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
    share = np.clip(
        (np.mean(boot < value) + np.mean(boot <= value)) / 2,
        1 / (2 * len(boot)),
        1 - 1 / (2 * len(boot)),
    )
    z0, away = stats.norm.ppf(share), jack.mean() - jack
    spread = (away**2).sum() ** 1.5
    acceleration = (away**3).sum() / (6 * spread) if spread > 0 else 0.0
    z = z0 + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(boot, stats.norm.cdf(z0 + z / (1 - acceleration * z)))
    return float(low), float(high)


def _checked(scores: torch.Tensor, split: Split) -> np.ndarray:
    probabilities = np.asarray(scores, dtype=np.float64)
    if probabilities.shape != (len(split), len(split.classes)):
        raise ValueError(
            f"scores must have shape {(len(split), len(split.classes))} for this split; got {probabilities.shape}."
        )
    if not np.isfinite(probabilities).all():
        raise ValueError(
            "scores hold NaN or infinite values. Look for a diverged training or NaN pixels."
        )
    if probabilities.min() < -1e-6 or np.abs(probabilities.sum(1) - 1).max() > 1e-3:
        raise ValueError(
            "scores must be probabilities: not negative, each row summing to 1. Pass predict(...), not logits."
        )
    if len(torch.unique(split.labels)) < 2:
        raise ValueError(
            f"The {split.name} set holds one class only: AUC, sensitivity and specificity need two."
        )
    return probabilities


def evaluate(
    scores: torch.Tensor,
    split: Split,
    n_boot: int = 1000,
    seed: int = 0,
    threshold: float = 0.5,
    level: float = 0.95,
    train: Split | None = None,
) -> dict[str, tuple[float, float, float]]:
    """Metrics of one model on one split, each as (value, low, high) with a 95 % interval.

    `scores`: class probabilities (N, n_classes) as from `predict`. `threshold`: a case is called positive from this
    probability on; choose it on validation. auc, accuracy, balanced_accuracy, sensitivity, specificity, brier (for more
    than two classes: macro one-vs-rest AUC, no sensitivity and specificity). Intervals: BCa bootstrap that draws whole
    patients within their class (images, where the source knows no patients). Where all draws agree, as at a
    sensitivity of 1, the exact binomial interval over patients stands in. They hold for one trained model: how much
    another training seed would change is not in them; that is `compare`'s business. `train`: what the model learnt from.
    Raises ValueError for scores that are no probabilities or do not fit, a split of one class, and patients shared with `train`.
    """
    if train is not None:
        check_disjoint(train, split)
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


def _exact(
    name: str, value: float, split: Split, stratum: np.ndarray, level: float
) -> tuple[float, float]:
    """Clopper-Pearson interval of a share that came out all right or all wrong, over the patients it rests on."""
    positive = 1 if split.positive is None else split.positive
    sizes = np.bincount(stratum, minlength=len(split.classes))
    n = {"sensitivity": sizes[positive], "specificity": sizes[1 - positive]}.get(
        name, sizes[sizes > 0].min()
    )
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
        [
            _metric_table(_checked(s, split), labels, split.positive, threshold, weights)
            for s in side
        ]
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
        f"  {name.replace('_', ' '):18s} {value:.3f}  ({low:.3f} to {high:.3f})"
        for name, (value, low, high) in result.items()
    ]
    reasons = "; ".join(f"{o['opening']}. {o['reason']}" for o in task.openings) or "never"
    return "\n".join(
        [*lines, "", f"Test set opened {len(task.openings)} time(s) in this run: {reasons}"]
    )


def delong(scores_a, labels, scores_b=None, patients=None, level: float = 0.95) -> dict[str, float]:
    """AUC with DeLong's interval on the logit scale; with `scores_b`, the paired difference of two AUCs on the same cases.

    All arrays (N,). `scores_a`, `scores_b`: higher = more positive, any scale. `labels`: True = positive. `patients`: None =
    all cases independent; else placement values are summed by patient (Obuchowski, Biometrics 53, 1997, 567).
    Returns auc, se, low, high; with `scores_b` also auc_b, difference, difference_low, difference_high, p (a - b, normal).
    Raises ValueError for shapes that differ, values not finite, fewer than two patients in a class, and an AUC of 0 or 1.
    DeLong et al., Biometrics 44 (1988) 837; by ranks as Sun & Xu, IEEE Signal Processing Letters 21 (2014) 1389.
    """
    y = np.asarray(labels).astype(bool)
    unit = (
        np.arange(len(y))
        if patients is None
        else np.unique(np.asarray(patients), return_inverse=True)[1]
    )
    sides = [np.asarray(s, dtype=np.float64) for s in (scores_a, scores_b) if s is not None]
    if len(unit) != len(y) or not all(s.shape == y.shape and np.isfinite(s).all() for s in sides):
        raise ValueError(
            f"scores, labels and patients must be finite and of one shape (N,); labels have {y.shape}."
        )
    n_units = [len(np.unique(unit[c])) for c in (y, ~y)]
    if min(n_units) < 2:
        raise ValueError(
            f"DeLong needs at least two patients of each class; got {n_units[0]} positive, {n_units[1]} negative."
        )

    def placements(
        s: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:  # the share of the other class on the right side, ties 1/2
        rank = stats.rankdata(s)
        return (rank[y] - stats.rankdata(s[y])) / (~y).sum(), 1 - (
            rank[~y] - stats.rankdata(s[~y])
        ) / y.sum()

    def variance(v10: np.ndarray, v01: np.ndarray) -> float:
        pos, neg = (
            np.bincount(unit[c], v - v.mean(), unit.max() + 1) / len(v)
            for c, v in ((y, v10), (~y, v01))
        )
        m, n, k = *n_units, unit.max() + 1
        return m / (m - 1) * pos @ pos + n / (n - 1) * neg @ neg + 2 * k / (k - 1) * pos @ neg

    z, placed = stats.norm.ppf((1 + level) / 2), [placements(s) for s in sides]
    aucs, se = [float(v10.mean()) for v10, _ in placed], float(variance(*placed[0]) ** 0.5)
    if not 0 < aucs[0] < 1:
        raise ValueError(
            f"The AUC is {aucs[0]:.0f}: the classes do not overlap and DeLong's variance is 0. Use evaluate(...)."
        )
    ends = special.expit(
        special.logit(aucs[0]) + np.array([-z, z]) * se / (aucs[0] * (1 - aucs[0]))
    )
    result = {"auc": aucs[0], "se": se, "low": ends[0], "high": ends[1]}
    if scores_b is not None:
        gap, se = aucs[0] - aucs[1], max(variance(*(a - b for a, b in zip(*placed))), 0.0) ** 0.5
        p = 2 * stats.norm.sf(abs(gap) / se) if se > 0 else float(gap == 0)
        result |= {
            "auc_b": aucs[1],
            "difference": gap,
            "difference_low": gap - z * se,
            "difference_high": gap + z * se,
            "p": p,
        }
    return {name: float(value) for name, value in result.items()}


# heading -> items of TRIPOD+AI (Collins et al., BMJ 385, 2024, e078378) and CLAIM 2024 (Tejani et al., Radiol. AI 6, 2024, e240300)
REPORT_ITEMS = {
    "intended use": ("3b", "41"), "data": ("5a", "7"), "reference standard": ("8a", "14"), "patients": ("20a, 20b", "35, 36"),
    "split": ("12a", "19, 20"), "sample size": ("10", "21"), "model": ("22", "22, 24"), "training": ("12c", "25, 26"),
    "operating point": ("15", "28"), "metrics": ("12e", "28, 29"), "performance": ("23a", "37, 38"), "calibration": ("23a", "37"),
    "subgroups": ("14, 23a", "30"), "errors": ("25", "39"), "limitations": ("26", "40"), "code and data": ("18e, 18f", "43"),
    "test openings": ("12a", "32"),
}  # fmt: skip


def tripod_report(
    task: Task, split: Split, result: dict[str, tuple[float, float, float]], notes: dict[str, str]
) -> str:
    """A report with the headings of REPORT_ITEMS and the item numbers of both checklists, as text of 100 columns.

    Code fills in what `task`, `split` and `result` (of `evaluate`) know; `notes` (heading -> text) adds the rest; what nobody
    filled in says NOT REPORTED. Raises ValueError for an unknown heading and for patients that two splits share.
    """
    if unknown := set(notes) - set(REPORT_ITEMS):
        raise ValueError(
            f"Unknown heading(s) {', '.join(sorted(unknown))}. Choose from: {', '.join(REPORT_ITEMS)}."
        )
    check_disjoint(task.train, task.val, split)
    known = {
        "data": task.card,
        "patients": "; ".join(map(str, (task.train, task.val, split))),
        "split": "by image: the source tells no patients"
        if split.patients is None
        else "by patient: no patient is in two parts",
        "metrics": f"95 % intervals: BCa bootstrap over {'images' if split.patients is None else 'patients'}",
        "performance": "; ".join(
            f"{k.replace('_', ' ')} {v:.3f} ({lo:.3f} to {hi:.3f})"
            for k, (v, lo, hi) in result.items()
        ),
        "test openings": f"{len(task.openings)}: "
        + ("; ".join(o["reason"] for o in task.openings) or "never opened"),
    }
    lines = [f"Report on task {task.name!r} (items of TRIPOD+AI | CLAIM 2024)"]
    for heading, (tripod, claim) in REPORT_ITEMS.items():
        text = (
            " ".join(t.replace("\n", " ") for t in (known.get(heading), notes.get(heading)) if t)
            or "NOT REPORTED"
        )
        lines.append(
            textwrap.fill(
                text,
                100,
                initial_indent=f"{heading} [{tripod} | {claim}]: ",
                subsequent_indent="    ",
            )
        )
    return "\n".join(lines)
