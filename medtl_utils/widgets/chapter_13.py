"""Chapter 13: the inner-loop player: a start, some points of a new curve, and steps on them."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..plots import BLUE, GREEN, GREY, INK, ORANGE
from .pattern import choice, explore, slider

SHOTS = [10, 3, 1]
STEPS = 10
MOST = 8.0  # of |y| that is shown
LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."))


def inner_loop_player(play: Callable, curves: int) -> ipw.VBox:
    """Curve, labelled points and inner steps -> what each start makes of them, and its error.

    `play(curve, shots, steps)` returns x and y of the points, (shots,), then x (n,) in order, and a
    dict of lines y (n,): the first is the true curve, the others are drawn over it. `curves`: how
    many there are, numbered from 0.
    """

    def draw(curve: int, shots: int, steps: int) -> tuple[plt.Figure, str]:
        x, y, grid, lines = play(curve - 1, shots, steps)
        grid, lines = np.asarray(grid), {name: np.asarray(line) for name, line in lines.items()}
        (true, target), *drawn = lines.items()
        errors = {name: float(np.mean((line - target) ** 2)) for name, line in drawn}
        told = ", ".join(f"{name} {_short(value)}" for name, value in errors.items())
        title = f"Curve {curve}, {_some(shots, 'point')}, {_some(steps, 'step')}"
        text = (
            f"{title}. Mean squared error of this one curve: {told}. Thick line: the true curve; "
            f"dots: the {_some(shots, 'point')} that the steps learn from."
        )
        fig, axis = plt.subplots(figsize=(7.5, 3.9))
        axis.plot(grid, target, "-", color=GREY, linewidth=5, alpha=0.5, label=true)
        for (name, line), (color, style) in zip(drawn, LINES):
            label = f"{name}: error {_short(errors[name])}"
            axis.plot(grid, np.clip(line, -MOST, MOST), style, color=color, label=label)
        axis.plot(np.asarray(x), np.asarray(y), "o", color=INK, label="points")
        axis.set(xlabel="x (no unit)", ylabel="y (no unit)", ylim=(-MOST, MOST))
        fig.legend(loc="outside lower center", ncols=4, fontsize=10)
        fig.suptitle(title, fontsize=12, fontweight="bold")
        return fig, text

    return explore(
        draw,
        curve=slider("new curve", 1, curves, 1),
        shots=choice("labelled points", SHOTS),
        steps=slider("inner steps", 0, STEPS, 3),
    )


def _some(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _short(error: float) -> str:
    return f"{error:.1f}" if np.isfinite(error) and error < 1000 else "over 1,000"
