"""Chapter 04: the path of gradient descent on a bowl."""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..plots import BLUE, GREY, INK, ORANGE
from .pattern import choice, explore, slider

SHARES = np.arange(5, 206, 5) / 100  # learning rates, as shares of 2/λ_max


@dataclass
class Bowl:
    """The loss (θ - θ*)ᵀH(θ - θ*)/2 of two parameters, and where gradient descent starts."""

    H: np.ndarray
    star: np.ndarray
    start: np.ndarray

    @property
    def bound(self) -> float:
        """Above this learning rate plain gradient descent diverges: 2/λ_max."""
        return 2 / np.linalg.eigvalsh(self.H).max()

    def height(self, theta: np.ndarray) -> np.ndarray:
        """Loss above its minimum at `theta` (..., 2)."""
        away = theta - self.star
        return np.einsum("...i,ij,...j", away, self.H, away) / 2

    def path(self, share: float, beta: float, steps: int) -> np.ndarray:
        """(steps + 1, 2): heavy-ball gradient descent with rate `share` times the bound."""
        rate, theta, v = share * self.bound, [self.start], np.zeros(2)
        for _ in range(steps):
            v = beta * v + self.H @ (theta[-1] - self.star)
            theta.append(theta[-1] - rate * v)
        return np.array(theta)


def gradient_descent_path(H, theta_star, theta_0, steps: int = 40) -> ipw.VBox:
    """Learning rate and momentum -> the path on the bowl (θ - θ*)ᵀH(θ - θ*)/2, and its loss.

    `H`: (2, 2), symmetric, positive definite; `theta_star`, `theta_0`: (2,), minimum and start. The
    learning rate is given in % of 2/λ_max, above which plain gradient descent diverges; with
    momentum β (Polyak 1964) the bound is (1 + β) times as high.
    """
    H, theta_star, theta_0 = (np.asarray(a, dtype=float) for a in (H, theta_star, theta_0))
    if H.shape != (2, 2) or not np.allclose(H, H.T) or np.linalg.eigvalsh(H).min() <= 0:
        raise ValueError(
            "H must be a symmetric 2 × 2 matrix with positive eigenvalues: the Hessian of a bowl."
        )
    bowl = Bowl(H, theta_star, theta_0)

    def draw(percent: int, beta: float) -> tuple[plt.Figure, str]:
        walk, limit = bowl.path(percent / 100, beta, steps), 100 * (1 + beta)
        verdict = _verdict(percent, limit)
        fig = _figure(bowl, walk, percent, beta)
        title = f"α = {percent} % of 2/λ_max, momentum {beta}: {verdict}"
        fig.suptitle(title, fontsize=12, fontweight="bold")
        first, last = bowl.height(walk[[0, -1]])
        text = (
            f"Learning rate {percent} % of 2/λ_max, momentum {beta}; the bound is {limit:.0f} %. "
            f"In {steps} steps the loss above its minimum goes from {first:.3g} to {last:.3g}: "
            f"it {verdict}."
        )
        return fig, text

    return explore(
        draw,
        percent=slider("learning rate, % of 2/λ_max", 10, 200, 50, 10),
        beta=choice("momentum", [0, 0.5, 0.9]),
    )


def _verdict(percent: int, limit: float) -> str:
    if percent == limit:
        return "stays on the edge"
    return "converges" if percent < limit else "diverges"


def _figure(bowl: Bowl, walk: np.ndarray, percent: int, beta: float) -> plt.Figure:
    fig, axes = plt.subplot_mosaic("ab;ac", figsize=(9, 4.4), width_ratios=[1.15, 1])
    steps, loss = len(walk) - 1, bowl.height(walk)
    _draw_path(axes["a"], bowl, walk)
    axes["b"].semilogy(np.maximum(loss, 1e-12), color=BLUE, linestyle="-")
    axes["b"].set(xlabel="step", ylabel="loss - minimum", ylim=(1e-8, 1e4))
    ends = [bowl.height(bowl.path(share, beta, steps)[-1]) for share in SHARES]
    axes["c"].semilogy(100 * SHARES, np.maximum(ends, 1e-12), color=INK, linestyle="-")
    axes["c"].plot(percent, max(loss[-1], 1e-12), "o", color=BLUE, markersize=8)
    axes["c"].axvline(100 * (1 + beta), color=ORANGE, linestyle="--")
    axes["c"].set(
        xlabel="rate, % of 2/λ_max (dashed: bound)", ylabel=f"at step {steps}", ylim=(1e-12, 1e8)
    )
    return fig


def _draw_path(axis: plt.Axes, bowl: Bowl, walk: np.ndarray) -> None:
    """The bowl from above: lines of equal loss, the steps, and the minimum as a star."""
    reach = 1.5 * np.abs(bowl.start - bowl.star).max()
    x, y = np.meshgrid(*(np.linspace(c - reach, c + reach, 80) for c in bowl.star))
    height, levels = bowl.height(np.stack([x, y], -1)), np.geomspace(0.003, 3, 9)
    levels = bowl.height(bowl.start) * levels
    axis.contour(x, y, height, levels=levels, colors=GREY, linewidths=0.8)
    axis.plot(*walk.T, color=BLUE, marker="o", markersize=4, linestyle="-", linewidth=1)
    axis.plot(*bowl.star, color=ORANGE, marker="*", markersize=13, linestyle="none")
    ends = reach * np.array([-1, 1])
    axis.set(xlim=bowl.star[0] + ends, ylim=bowl.star[1] + ends, xlabel="θ₁", ylabel="θ₂")
