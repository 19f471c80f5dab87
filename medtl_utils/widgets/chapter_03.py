"""Chapter 03: what weight and prevalence do to a probability; what a case costs, by loss."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..plots import BLUE, GREY, INK, ORANGE
from .pattern import choice, explore, slider

P = np.linspace(0.01, 0.99, 99)  # probability of the truth, or of malignant
CROSS_ENTROPY = -np.log(P)
SMOOTHED = -0.95 * np.log(P) - 0.05 * np.log(1 - P)
MARKED = 0.2  # the tumour that the caption of `probability_shift` follows


# ---- weight and prevalence ---------------------------------------------------------------------


def probability_shift(prevalence: float) -> ipw.VBox:
    """Class weight and another prevalence -> what becomes of a P(malignant) that is right here.

    `prevalence`: share of malignant cases in the training data, between 0 and 1. Both shift the
    logit: the weight by its logarithm, the prevalence by the logarithm of the ratio of the odds
    (Saerens et al., Neural Computation 14 (2002) 21). Raises ValueError for a share of 0 or 1.
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence must lie between 0 and 1; got {prevalence}.")

    def draw(weight: int, percent: int) -> tuple[plt.Figure, str]:
        there = percent / 100
        ratio = _odds(there) / _odds(prevalence)
        lines = [
            (f"what a model with weight {weight} says", ORANGE, "--", weight),
            (f"right where {percent} % are malignant", BLUE, "-", ratio),
        ]
        said, right = (_with_odds_times(MARKED, factor) for *_, factor in lines)
        even = _with_odds_times(0.5, 1 / weight)
        words = (
            f"P(malignant) {MARKED:.2f} is right here, where {100 * prevalence:.0f} % are "
            f"malignant. A model with class weight {weight} says {said:.3f}. Where {percent} % are "
            f"malignant, {right:.3f} is right. The weighted model says 0.5 where {even:.3f} is "
            "right here."
        )
        return _bent(lines), words

    weight = choice("class weight of malignant", [1, 2, 5, 10, 20])
    weight.value = 2
    return explore(draw, weight=weight, percent=slider("malignant in 100, elsewhere", 1, 80, 5))


def _odds(p):
    return p / (1 - p)


def _with_odds_times(p, factor: float):
    """The probability whose odds are `factor` times those of `p`."""
    odds = factor * _odds(p)
    return odds / (1 + odds)


def _bent(lines: list[tuple[str, str, str, float]]) -> plt.Figure:
    """Lines (label, colour, style, factor of the odds) over the probability that is right here."""
    fig, axis = plt.subplots(figsize=(6, 3.8))
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=2.5, label="right here")
    for label, color, style, factor in lines:
        axis.plot(P, _with_odds_times(P, factor), color=color, linestyle=style, label=label)
        axis.plot(MARKED, _with_odds_times(MARKED, factor), "o", color=color)
    axis.plot(MARKED, MARKED, "o", color=GREY)
    axis.set(
        title="A weight and another prevalence bend the probabilities",
        xlabel="P(malignant) that is right here",
        ylabel="P(malignant)",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    fig.legend(loc="outside lower center", ncols=2, fontsize=10)
    return fig


# ---- cost and pull, by loss --------------------------------------------------------------------


def loss_curves() -> ipw.VBox:
    """Class weight and gamma -> what a case costs and how hard it pulls on its logit.

    Two classes, natural logarithm. Focal loss: Lin et al., ICCV 2017; label smoothing (0.1):
    Szegedy et al., CVPR 2016.
    """

    def draw(weight: float, gamma: float) -> tuple[plt.Figure, str]:
        cost, pull = _focal(weight, gamma)
        name = f"weight {weight}, gamma {gamma}"
        return _figure(f"focal, {name}", cost, pull), _in_words(f"Class {name}", cost, pull)

    power = choice("gamma", [0, 1, 2, 3, 5])
    power.value = 2
    return explore(draw, weight=choice("class weight", [1, 2, 5]), gamma=power)


def _focal(weight: float, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Weighted focal loss at P, and its negative derivative by the logit of the truth."""
    cost = weight * (1 - P) ** gamma * CROSS_ENTROPY
    focus = (1 - P) ** gamma
    rise = gamma * P * (1 - P) ** (gamma - 1) * CROSS_ENTROPY
    return cost, weight * (focus + rise) * (1 - P)


def _figure(name: str, cost: np.ndarray, pull: np.ndarray) -> plt.Figure:
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3))
    lines = [
        ("cross-entropy", GREY, ":", 2.5, CROSS_ENTROPY, 1 - P),
        ("smoothing 0.1", ORANGE, "--", 1.8, SMOOTHED, 0.95 - P),
        (name, BLUE, "-", 1.8, cost, pull),
    ]
    for label, color, style, width, height, slope in lines:
        left.plot(P, height, color=color, linestyle=style, linewidth=width, label=label)
        right.plot(P, slope, color=color, linestyle=style, linewidth=width)
    right.axhline(0, color=INK, linestyle="-", linewidth=0.7)
    left.set(title="What a case costs", ylabel="loss", ylim=(0, 5))
    right.set(title="How hard it pulls on its logit", ylabel="pull upwards")
    for axis in (left, right):
        axis.set_xlabel("probability of the truth")
    left.legend()
    low = -0.2 * max(1.0, pull.max())
    right.annotate(
        "smoothing pulls back",
        (0.98, -0.03),
        (0.4, low / 2),
        arrowprops={"arrowstyle": "->"},
        va="center",
        fontsize=10,
    )
    right.set_ylim(low, None)
    return fig


def _in_words(name: str, cost: np.ndarray, pull: np.ndarray) -> str:
    words = []
    for q in (0.1, 0.9):
        k = int(np.abs(P - q).argmin())
        words.append(
            f"at {q:.1f} it costs {cost[k]:.3f} (cross-entropy {CROSS_ENTROPY[k]:.3f}) "
            f"and pulls {pull[k]:.3f} ({1 - P[k]:.3f})"
        )
    return (
        f"{name}, by the probability of the truth: {'; '.join(words)}. "
        "Smoothing pulls back above 0.95."
    )
