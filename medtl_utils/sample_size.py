"""How many patients a study needs: to measure one model, and to tell two models apart."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

Z = stats.norm.ppf(0.975)
LARGEST = 10_000_000


def auc_error(auc: float, prevalence: float, n: int) -> float:
    """Standard error of an AUC from n patients, a share `prevalence` of them diseased.

    Newcombe, Statistics in Medicine 25 (2006) 559, as used by Riley et al., Statistics in Medicine
    40 (2021) 4230.
    """
    half = n / 2 - 1
    inside = 1 + half * (1 - auc) / (2 - auc) + half * auc / (1 + auc)
    return math.sqrt(auc * (1 - auc) * inside / (n**2 * prevalence * (1 - prevalence)))


def validation_size(
    auc: float,
    prevalence: float,
    auc_width: float = 0.1,
    slope_width: float = 0.2,
    oe_width: float = 0.2,
    share_width: float = 0.1,
    sensitivity: float = 0.8,
    specificity: float = 0.8,
    linear_predictor: tuple[float, float] | None = None,
) -> dict[str, int]:
    """Patients to validate a model with two classes: what is measured -> number of patients.

    Each number gives a 95 % interval of the width that is asked for: of the AUC, the calibration
    slope (expected to be 1), the ratio of observed to expected cases, sensitivity and specificity
    (`share_width`). Riley et al., Statistics in Medicine 40 (2021) 4230 and BMJ 384 (2024)
    e074821. `linear_predictor`: mean and standard deviation of the logit of the probabilities; by
    default that of a calibrated model whose logits are normal in both classes with this AUC.
    Raises ValueError for what is no probability.
    """
    _check(auc, prevalence, sensitivity, specificity)
    error = np.arcsinh(oe_width / 2) / Z  # exp(Z error) - exp(-Z error) is the width
    shares = {
        "sensitivity": (sensitivity, prevalence),
        "specificity": (specificity, 1 - prevalence),
    }
    sizes = {
        "AUC": _smallest(lambda n: 2 * Z * auc_error(auc, prevalence, n) <= auc_width),
        "calibration slope": _slope_size(auc, prevalence, slope_width, linear_predictor),
        "observed to expected cases": math.ceil((1 - prevalence) / (prevalence * error**2)),
    }
    for name, (share, part) in shares.items():
        sizes[name] = math.ceil(share * (1 - share) * (2 * Z / share_width) ** 2 / part)
    return sizes


def _slope_size(
    auc: float, prevalence: float, width: float, linear_predictor: tuple[float, float] | None
) -> int:
    """From the information matrix of a logistic regression on the model's own logits."""
    t = np.linspace(-8, 8, 4001)
    if linear_predictor is None:
        spread = math.sqrt(2) * stats.norm.ppf(auc)
        middle, half = math.log(prevalence / (1 - prevalence)), spread**2 / 2
        lp = np.concatenate([middle - half + spread * t, middle + half + spread * t])
        weight = np.concatenate(
            [(1 - prevalence) * stats.norm.pdf(t), prevalence * stats.norm.pdf(t)]
        )
    else:
        lp, weight = linear_predictor[0] + linear_predictor[1] * t, stats.norm.pdf(t)
    weight = weight / weight.sum()
    probability = 1 / (1 + np.exp(-lp))
    information = weight * probability * (1 - probability)
    a, ab, b = information.sum(), (information * lp).sum(), (information * lp**2).sum()
    return math.ceil(a / ((a * b - ab**2) * (width / (2 * Z)) ** 2))


def paired_power(
    auc: float, difference: float, prevalence: float, n: int, correlation: float = 0.5
) -> float:
    """Chance that n patients, scored by two models, show their AUCs' difference at p < 0.05.

    auc, auc + difference: of the two models. correlation: between the two AUCs over repeated
    samples of patients; 0.5 where nobody knows. Standard errors: `auc_error`; Hanley & McNeil,
    Radiology 148 (1983) 839. Raises ValueError for what is no probability.
    """
    _check(auc, auc + difference, prevalence)
    if not -1 < correlation < 1 or difference == 0:
        raise ValueError("correlation must lie between -1 and 1, and difference must not be 0.")
    one, two = (auc_error(value, prevalence, n) for value in (auc, auc + difference))
    error = math.sqrt(one**2 + two**2 - 2 * correlation * one * two)
    shift = abs(difference) / error
    return float(stats.norm.cdf(shift - Z) + stats.norm.cdf(-shift - Z))


def paired_size(
    auc: float, difference: float, prevalence: float, correlation: float = 0.5, power: float = 0.8
) -> int:
    """Patients for which `paired_power` reaches `power`."""
    _check(power)
    return _smallest(lambda n: paired_power(auc, difference, prevalence, n, correlation) >= power)


def _check(*shares: float) -> None:
    if odd := [share for share in shares if not 0 < share < 1]:
        raise ValueError(f"{odd[0]!r} must lie between 0 and 1, and be neither.")


def _smallest(enough) -> int:
    """The smallest n from 10 on for which `enough(n)` holds, by bisection."""
    low, high = 10, 20
    while not enough(high):
        low, high = high, 2 * high
        if high > LARGEST:
            raise ValueError(f"More than {LARGEST:,} patients would be needed: ask for less.")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
