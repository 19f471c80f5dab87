"""Intervals of one metric of one model: BCa bootstrap, and the exact ones where it knows
nothing."""

from __future__ import annotations

import numpy as np
from scipy import stats

from .metrics import Cases


class Intervals(dict):
    """metric -> (value, low, high); and the `level` of the intervals, such as 0.95."""

    level: float = 0.95


def bca(value: float, boot: np.ndarray, jack: np.ndarray, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of `value` from its draws and its jackknife
    values.

    Efron, "Better bootstrap confidence intervals", JASA 82 (1987) 171.
    """
    boot, jack = boot[np.isfinite(boot)], jack[np.isfinite(jack)]
    share = (np.mean(boot < value) + np.mean(boot <= value)) / 2
    share = np.clip(share, 1 / (2 * len(boot)), 1 - 1 / (2 * len(boot)))
    z0, away = stats.norm.ppf(share), jack.mean() - jack
    spread = (away**2).sum() ** 1.5
    acceleration = (away**3).sum() / (6 * spread) if spread > 0 else 0.0
    z = z0 + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(boot, stats.norm.cdf(z0 + z / (1 - acceleration * z)))
    return float(low), float(high)


def exact_share(value: float, n: int, level: float) -> tuple[float, float]:
    """Clopper-Pearson interval of a share `value` (0..1) of `n` patients; where value * n is no
    whole number, the wider one."""
    ends = [stats.binomtest(int(f(round(value * n, 6))), n) for f in (np.floor, np.ceil)]
    low, high = (test.proportion_ci(level, method="exact") for test in ends)
    return float(min(low.low, value)), float(max(high.high, value))


def no_spread(values: np.ndarray) -> bool:
    """Whether all draws agree, so that a bootstrap knows nothing about the uncertainty."""
    finite = values[np.isfinite(values)]
    return len(finite) == 0 or np.ptp(finite) <= 1e-12


def combined(
    parts: list[tuple[float, float, tuple[float, float]]], value: float
) -> tuple[float, float]:
    """Interval of a weighted sum of class means from theirs: (weight, mean, (low, high)) each.

    Zou & Donner, "Construction of confidence limits about effect measures", Statistics in Medicine
    27 (2008) 1693.
    """
    below = sum((w * (mean - low)) ** 2 for w, mean, (low, _) in parts) ** 0.5
    above = sum((w * (high - mean)) ** 2 for w, mean, (_, high) in parts) ** 0.5
    return value - below, value + above


def class_weights(cases: Cases, name: str) -> tuple[str, dict[int, float]]:
    """A metric as a weighted sum of class means: (what is averaged, class -> weight)."""
    share = {c: float(np.mean(cases.labels == c)) for c in cases.present}
    return {
        "accuracy": ("right", share),
        "balanced_accuracy": ("right", dict.fromkeys(cases.present, 1 / len(cases.present))),
        "sensitivity": ("right", {cases.positive: 1.0}),
        "specificity": ("right", {1 - cases.positive: 1.0}),
        "brier": ("squared", share),
    }[name]


def interval_of(
    name: str, value: float, cases: Cases, boot: tuple, jack: tuple, n_patients: dict, level: float
) -> tuple[float, float]:
    """The interval of metric `name` as `evaluate` promises it.

    `boot`, `jack`: of `bootstrap_tables` and `jackknife_tables`. `n_patients`: class -> number.
    """
    (draws, class_draws), (left_out, class_left_out) = boot, jack

    def of_class(kind: str, c: int) -> tuple[float, tuple[float, float]]:
        """Mean over the cases of a class, and its interval."""
        top = 1.0 if kind == "right" or cases.two else 2.0  # Brier score of many classes: 0..2
        mean = float(getattr(cases, kind)[cases.labels == c].mean())
        if not no_spread(class_draws[kind][c]):
            return mean, bca(mean, class_draws[kind][c], class_left_out[kind][c], level)
        low, high = exact_share(mean / top, n_patients[c], level)
        return mean, (top * low, top * high)

    if name == "auc":
        if no_spread(draws[name]):
            return exact_share(value, min(n_patients.values()), level)
        return bca(value, draws[name], left_out[name], level)
    kind, weights = class_weights(cases, name)
    if any(no_spread(class_draws[kind][c]) for c in weights):
        return combined([(w, *of_class(kind, c)) for c, w in weights.items()], value)
    return bca(value, draws[name], left_out[name], level)
