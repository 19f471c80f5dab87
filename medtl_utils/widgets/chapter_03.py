"""Chapter 03: what a case costs and how hard it pulls, by loss function."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..plots import BLUE, GREY, INK, ORANGE
from .pattern import choice, explore

P = np.linspace(0.01, 0.99, 99)  # probability of the truth
CROSS_ENTROPY = -np.log(P)
SMOOTHED = -0.95 * np.log(P) - 0.05 * np.log(1 - P)


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
