"""Metrics that never come without an interval, by patient where patients are known."""

from __future__ import annotations

import numpy as np
import torch
from scipy import special, stats

from .data import Split, check_disjoint
from .intervals import Intervals, exact_share, interval_of
from .metrics import (
    Cases,
    bootstrap_counts,
    bootstrap_tables,
    checked,
    jackknife_tables,
    members,
    units,
    whole,
)


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

    `scores`: class probabilities (N, n_classes) as from `predict`. `threshold`: a case is called
    positive from this probability on; choose it on validation. `train`: what the model learnt from,
    if a shared patient is to be found. auc, accuracy, balanced_accuracy, sensitivity, specificity,
    brier (for more than two classes: macro one-vs-rest AUC, no sensitivity and specificity); low <=
    value <= high.

    Intervals: BCa bootstrap that draws whole patients within their class (where the source knows no
    patients: whole groups of near-copies, or images). Where all draws of a class agree, as at a
    sensitivity of 1, the bootstrap knows nothing: the exact binomial interval over the patients of
    that class stands in, and classes are combined (`intervals.combined`). Where all draws of the
    AUC agree (1, or 0.5 for constant scores), it is that of a share of the smaller class. The
    intervals hold for one trained model: what another training seed would change is not in them
    (see `compare`).

    Raises ValueError for scores that are no probabilities or do not fit, for a split of one class,
    and for patients shared with `train`.
    """
    if train is not None:
        check_disjoint(train, split)
    cases, (unit, stratum) = Cases(scores, split, threshold), units(split)
    counts = bootstrap_counts(stratum, n_boot, np.random.default_rng(seed))
    boot, jack = bootstrap_tables(cases, unit, counts), jackknife_tables(cases, unit)
    n_patients = {c: max(1, int((stratum == c).sum())) for c in cases.present}
    result = Intervals()
    result.level = level
    for name, value in whole(cases).items():
        low, high = interval_of(name, value, cases, boot, jack, n_patients, level)
        result[name] = (value, min(low, value), max(high, value))
    return result


# ---- over seeds ----------------------------------------------------------------------------------


def _over_seeds(scores: list, split: Split, metric: str, threshold: float):
    """The metric of each seed (seeds,), and with each patient left out (seeds, units)."""
    unit, _ = units(split)
    values, jack = [], []
    for one in scores:
        cases = Cases(one, split, threshold)
        if metric not in cases.names():
            raise ValueError(
                f"Unknown metric {metric!r}. Choose one of: {', '.join(cases.names())}."
            )
        values.append(whole(cases)[metric])
        jack.append(jackknife_tables(cases, unit)[0][metric])
    return np.array(values), np.array(jack)


def _crossed(values: np.ndarray, jack: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, its standard error over patients, that over both patients and seeds, and the degrees of
    freedom.

    Variance = jackknife over patients of the mean + variance over seeds / number of seeds;
    Welch-Satterthwaite. What patients and seeds do together is counted in both, so it errs on the
    wide side.
    """
    (n_seeds, n_units), jack = jack.shape, jack.mean(0)
    patients = (n_units - 1) / n_units * ((jack - jack.mean()) ** 2).sum()
    seeds = values.var(ddof=1) / n_seeds
    variance = patients + seeds
    freedom = np.inf
    if variance > 0:
        freedom = variance**2 / (patients**2 / (n_units - 1) + seeds**2 / (n_seeds - 1))
    return float(values.mean()), patients**0.5, variance**0.5, freedom


def mean_over_seeds(
    scores: list[torch.Tensor],
    split: Split,
    metric: str = "auc",
    level: float = 0.95,
    threshold: float = 0.5,
) -> dict[str, float]:
    """Mean of a metric over training seeds, with an interval that covers patients and seeds and
    stays within 0..1.

    `scores`: one (N, n_classes) tensor of probabilities a seed, >= 2. The standard error is that of
    `compare`; the interval is taken on the logit scale: expit(logit(m) ± t se / (m (1 - m))). Where
    nothing varies it is the exact binomial one over the patients of the smaller class. Returns
    value, low, high, sd_seeds, se_patients, n_seeds.
    """
    if len(scores) < 2:
        raise ValueError(f"mean_over_seeds needs at least 2 seeds; got {len(scores)}.")
    values, jack = _over_seeds(scores, split, metric, threshold)
    mean, se_patients, se, freedom = _crossed(values, jack)
    top = 2.0 if metric == "brier" and len(split.classes) > 2 else 1.0
    share = mean / top
    if se > 0 and 0 < share < 1:
        reach = stats.t.ppf((1 + level) / 2, freedom) * se / top / (share * (1 - share))
        low, high = special.expit(special.logit(share) + np.array([-reach, reach]))
    else:
        low, high = exact_share(
            share, int(np.unique(units(split)[1], return_counts=True)[1].min()), level
        )
    return {
        "value": mean,
        "low": float(min(top * low, mean)),
        "high": float(max(top * high, mean)),
        "sd_seeds": float(values.std(ddof=1)),
        "se_patients": float(se_patients),
        "n_seeds": len(scores),
    }


def compare(
    scores_a: list[torch.Tensor],
    scores_b: list[torch.Tensor],
    split: Split,
    metric: str = "auc",
    level: float = 0.95,
    threshold: float = 0.5,
) -> dict[str, float]:
    """Paired difference a - b of a metric, over training seeds and patients at once.

    `scores_a`, `scores_b`: one (N, n_classes) tensor of probabilities a seed, pair by pair, >= 2
    pairs. The interval crosses both sources of chance: variance = jackknife over patients of the
    mean difference + variance of the differences over seeds / number of seeds, with a t quantile
    (Welch-Satterthwaite). Seed-by-patient interaction is counted in both, so it errs on the wide
    side. Returns a, b (means), difference, low, high, sd_seeds (SD of the difference over seeds),
    se_patients, n_seeds, p.
    """
    if len(scores_a) != len(scores_b) or len(scores_a) < 2:
        raise ValueError(
            "compare needs the same number of seeds on both sides, at least 2; "
            f"got {len(scores_a)} and {len(scores_b)}."
        )
    (a, jack_a), (b, jack_b) = (
        _over_seeds(side, split, metric, threshold) for side in (scores_a, scores_b)
    )
    mean, se_patients, se, freedom = _crossed(a - b, jack_a - jack_b)
    if se == 0:
        low, high, p = mean, mean, float(mean == 0)
    else:
        low, high = stats.t.interval(level, freedom, loc=mean, scale=se)
        p = 2 * stats.t.sf(abs(mean) / se, freedom)
    return {
        "a": float(a.mean()),
        "b": float(b.mean()),
        "difference": mean,
        "low": float(low),
        "high": float(high),
        "sd_seeds": float((a - b).std(ddof=1)),
        "se_patients": float(se_patients),
        "n_seeds": len(a),
        "p": float(p),
    }


def aggregate(scores: torch.Tensor, split: Split, how: str = "mean") -> tuple[torch.Tensor, Split]:
    """One row a patient instead of one an image: (scores, split), to be passed to `evaluate`
    together.

    `how`: "mean" of the patient's probabilities, or "max": those of the image with the highest
    probability of disease. The patient's label is the positive class where any of her images is
    positive; with more classes her images must agree. The split keeps her first image. Raises
    ValueError where patients are unknown or her labels differ without a positive class.
    """
    if split.patients is None:
        raise ValueError(
            f"The {split.name} set knows no patients, so scores cannot be put together by patient."
        )
    if how not in ("mean", "max") or how == "max" and split.positive is None:
        raise ValueError(
            'how must be "mean", or "max" where split.positive says which class is the disease.'
        )
    probabilities = torch.as_tensor(checked(scores, split))
    _, first, unit = np.unique(split.patients, return_index=True, return_inverse=True)
    rows, labels = [], []
    for mine in members(unit):
        own, hers = probabilities[mine], split.labels[mine]
        rows.append(own.mean(0) if how == "mean" else own[own[:, split.positive].argmax()])
        if len(hers.unique()) > 1 and split.positive is None:
            raise ValueError(
                f"The images of patient {split.patients[mine[0]]} have different labels, and the "
                "task has no positive class. Set split.positive, or give each patient one label."
            )
        positive = split.positive is not None and bool((hers == split.positive).any())
        labels.append(split.positive if positive else int(hers[0]))
    patients = split[first]
    patients.labels = torch.tensor(labels, dtype=torch.int64)
    return torch.stack(rows).to(torch.float32), patients
