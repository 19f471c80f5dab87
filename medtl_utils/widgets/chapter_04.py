"""Chapters 04 and 04b: the path of gradient descent on a bowl; the best of many, as reported."""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from ..plots import BLUE, GREY, INK, ORANGE
from .pattern import choice, explore, slider

SHARES = np.arange(5, 206, 5) / 100  # learning rates, as shares of 2/λ_max
TRUE_AUC, LIKENESS, MALIGNANT = 0.80, 0.8, 0.3  # of the candidates, see `best_of_many`


# ---- the path on a bowl --------------------------------------------------------------------------


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


# ---- the best of many ----------------------------------------------------------------------------


def best_of_many(repeats: int = 300, seed: int = 0) -> ipw.VBox:
    """Candidates and images -> the AUC of the best, as reported on the images that chose it.

    All candidates (epochs, recipes, seeds) are equally good: their true AUC is TRUE_AUC. A share
    MALIGNANT of the images is malignant. Scores are normal, and those of two candidates correlate
    by LIKENESS within a class. `repeats`: simulated studies.
    """

    def draw(candidates: int, images: int) -> tuple[plt.Figure, str]:
        reported = _reported_aucs(candidates, images, repeats, seed)
        middle, (low, high) = reported.mean(), np.percentile(reported, [2.5, 97.5])
        fig, axis = plt.subplots(figsize=(7.5, 3.2))
        axis.hist(reported, bins=np.arange(0.5, 1.001, 0.02), color=BLUE, alpha=0.6)
        axis.axvline(TRUE_AUC, color=INK, linestyle="-", label=f"true AUC, {TRUE_AUC:.2f}")
        axis.axvline(
            middle, color=ORANGE, linestyle="--", label=f"mean of the reports, {middle:.2f}"
        )
        axis.set(xlabel="AUC of the best candidate, as reported", ylabel="simulated studies")
        axis.legend(fontsize=10, loc="upper left")
        excess = middle - TRUE_AUC
        axis.set_title(f"Best of {candidates} on {images} images: reported - true = {excess:+.3f}")
        text = (
            f"{repeats} simulated studies, each with {candidates} equally good candidates and "
            f"{images} images that both choose and report. True AUC {TRUE_AUC:.2f}; reported "
            f"{middle:.3f} on average, 95 % of the studies between {low:.3f} and {high:.3f}."
        )
        return fig, text

    return explore(
        draw,
        candidates=slider("candidates compared", 1, 30, 10),
        images=slider("images that choose and report", 40, 400, 100, 20),
    )


def _reported_aucs(candidates: int, images: int, repeats: int, seed: int) -> np.ndarray:
    """(repeats,) the highest AUC of `candidates` equally good ones on the same `images`."""
    rng, ill = np.random.default_rng(seed), round(MALIGNANT * images)
    own = rng.normal(size=(repeats, candidates, images))
    shared = rng.normal(size=(repeats, 1, images))
    scores = np.sqrt(LIKENESS) * shared + np.sqrt(1 - LIKENESS) * own
    scores[..., :ill] += np.sqrt(2) * norm.ppf(TRUE_AUC)
    ranks = scores.argsort(-1).argsort(-1) + 1
    wins = ranks[..., :ill].sum(-1) - ill * (ill + 1) / 2  # Mann and Whitney
    return (wins / (ill * (images - ill))).max(1)
