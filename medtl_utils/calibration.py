"""Are the probabilities right? Calibration of two classes, and of each class where there are more.

Van Calster et al., "Calibration: the Achilles heel of predictive analytics", BMC Medicine 17
(2019) 230. Notebook 06 builds the four measures in sight.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import special

from .data import Split
from .intervals import exact_share
from .metrics import CHUNK, Cases, units

ENOUGH = 10  # patients with the class, and patients without it: with fewer, nothing is claimed
LIMIT = 20.0  # a slope or intercept beyond it means that the classes do not overlap
BINS, IN_A_BIN = 8, 10  # of the reliability diagram: at most so many, with at least so many cases
MEASURES = ("observed : expected", "intercept, slope fixed at 1", "slope")


def measures(p: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, 3): observed : expected, intercept with the slope fixed at 1, and slope.

    p: probabilities (N,). y: bool (N,). weights: (B, N), one row a weighting of the cases. Ratio:
    cases that were observed, by the sum of the probabilities. Intercept: a in logit P = a + logit
    p. Slope: b in logit P = a' + b logit p. Both by Newton's method, cut at ±20; the slope is nan
    where all probabilities agree.
    """
    z = special.logit(np.clip(np.asarray(p, np.float64), 1e-6, 1 - 1e-6))
    y, w = np.asarray(y, np.float64), np.asarray(weights, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (w @ y) / (w @ special.expit(z))
        shift = _newton(z, y, w, sloped=False)[0]
        slope = _newton(z - z.mean(), y, w, sloped=True)[1]  # a slope does not feel the centre
        mean = w @ z / w.sum(1)
        spread = w @ z**2 / w.sum(1) - mean**2
    return np.stack([ratio, shift, np.where(spread > 1e-9, slope, np.nan)], 1)


def _newton(z: np.ndarray, y: np.ndarray, w: np.ndarray, sloped: bool) -> np.ndarray:
    """(2, B): intercept and slope of weighted logistic regressions; a slope of 1 if not `sloped`.

    A step moves by 1 at most and is halved while it makes the fit worse, so that rare classes
    converge, too; perfectly separated classes go towards the limit, not to infinity.
    """
    a, b = np.zeros(len(w)), np.ones(len(w))
    line = lambda a, b: a[:, None] + b[:, None] * z
    loss = lambda a, b: (w * (np.logaddexp(0, line(a, b)) - y * line(a, b))).sum(1)
    now = loss(a, b)
    for _ in range(60):
        fitted = special.expit(a[:, None] + b[:, None] * z)
        residual, curve = w * (y - fitted), w * fitted * (1 - fitted) + 1e-12
        g0, h00 = residual.sum(1), curve.sum(1)
        if sloped:
            g1, h01, h11 = residual @ z, curve @ z, curve @ z**2
            det = np.maximum(h00 * h11 - h01**2, 1e-12 * h00 * h11)
            step = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0]) / det
        else:
            step = np.stack([g0 / h00, np.zeros(len(w))])
        step = step / np.maximum(1, np.abs(step).max(0))  # shorter, in the same direction
        for _ in range(12):
            at = [(value + move).clip(-LIMIT, LIMIT) for value, move in zip((a, b), step)]
            worse = loss(*at) > now + 1e-9
            if not worse.any():
                break
            step[:, worse] /= 2
        (a, b), now = at, loss(*at)
        if np.abs(step).max() < 1e-8:
            break
    return np.stack([a, b])


def calibration(
    scores: torch.Tensor, split: Split, of: int, n_boot: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float, float]] | str:
    """MEASURES of class `of` against the others -> (value, low, high); or a sentence: too few.

    scores: probabilities (N, n_classes), best one row a patient (`aggregate`). The 95 % intervals
    are percentiles of a bootstrap over patients (near-copies or images where patients are unknown).
    All patients are drawn together: how many of them are ill is chance, too. All three numbers are
    nan where an intercept or slope is at ±20, or where a tenth of the draws has none. Raises
    ValueError as `evaluate`.
    """
    cases = Cases(scores, split, 0.5)
    p, y = cases.probabilities[:, of], cases.labels == of
    unit, _ = units(split)
    if few := too_few(split, [of]):
        return few
    rng, n = np.random.default_rng(seed), unit.max() + 1
    drawn, rows = [], max(1, CHUNK // (8 * len(y)))
    for start in range(0, n_boot, rows):
        size = min(rows, n_boot - start)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=size)
        drawn.append(measures(p, y, counts[:, unit]))
    values, draws = measures(p, y, np.ones((1, len(y))))[0], np.concatenate(drawn)
    found = {}
    for name, value, column in zip(MEASURES, values, draws.T):
        column = column[np.isfinite(column)]
        stuck = name != MEASURES[0] and abs(value) >= LIMIT
        if not np.isfinite(value) or stuck or len(column) < 0.9 * n_boot:
            found[name] = (np.nan, np.nan, np.nan)
            continue
        low, high = np.quantile(column, [0.025, 0.975])
        found[name] = tuple(map(float, (value, min(low, value), max(high, value))))
    return found


def too_few(split: Split, classes: list[int]) -> str:
    """A sentence where fewer than ENOUGH units have, or have not, one of `classes`; else ""."""
    unit, stratum = units(split)
    kind = "patients" if split.patients is not None else "images or groups of near-copies"
    for c in classes:
        n, name = int((stratum == c).sum()), split.classes[c]
        if min(n, len(stratum) - n) < ENOUGH:
            return (
                f"too few: {n} {kind} of the class {name}, {len(stratum) - n} of others; {ENOUGH} "
                "of both are needed"
            )
    return ""


def reliability(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(bins, 5): mean probability, share observed, its exact 95 % ends, cases; equal numbers a bin.

    p: (N,). y: bool (N,). Clopper-Pearson: each row of p is one independent case.
    """
    n_bins = int(np.clip(len(p) // IN_A_BIN, 1, BINS))
    rows = []
    for rank in np.array_split(np.argsort(p, kind="stable"), n_bins):
        share = float(y[rank].mean())
        ends = exact_share(share, len(rank), 0.95)
        rows.append((float(p[rank].mean()), share, *ends, len(rank)))
    return np.array(rows)
