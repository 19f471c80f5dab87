"""Chapter 11: the loss-weight dial: how much the mask's loss counts, and what both tasks get."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt

from ..plots import BLUE, GREY, ORANGE
from .pattern import choice, explore

# what stands on the dial -> the arm of the table
ARMS = {
    "0.5": "both, 0.5",
    "0 (label alone)": "label alone",
    "0.1": "both, 0.1",
    "0.9": "both, 0.9",
    "1 (mask alone)": "mask alone",
    "uncertainty": "both, uncertainty",
    "PCGrad": "both, PCGrad",
}
ORDER = ["0 (label alone)", "0.1", "0.5", "0.9", "1 (mask alone)", "uncertainty", "PCGrad"]
METRICS = {"AUC": BLUE, "Dice": ORANGE}


def loss_weight_dial(table: dict) -> ipw.VBox:
    """Weight of the mask's loss, images, labels -> AUC and Dice with intervals, this one marked.

    `table`: data/results/multi_task.json. The network that learns the mask alone needs no label, so
    its Dice stands beside every number of labels.
    """
    rows = {(r["data"], r["n"], r["arm"], r["metric"]): r for r in table["levels"]}
    numbers = {"25": 25, "all": None}

    def draw(weight: str, images: str, labels: str) -> tuple[plt.Figure, str]:
        place = images, numbers[labels]
        fig, axes = plt.subplots(2, 1, figsize=(7.5, 4.6), sharex=True)
        words = []
        for axis, (metric, colour) in zip(axes, METRICS.items()):
            found = {name: _row(rows, *place, ARMS[name], metric) for name in ORDER}
            _curve(axis, found, weight, metric, colour)
            words.append(f"{metric} {_words(found[weight])}")
        axes[1].set_xticks(range(len(ORDER)), [name.replace(" (", "\n(") for name in ORDER])
        axes[1].set_xlabel("weight of the mask's loss, or a rule that sets the weights")
        chosen = " and ".join(words)
        title = f"{images}, labels: {labels}. At {weight}: {chosen}"
        fig.suptitle(title, fontsize=11, fontweight="bold")
        every = "; ".join(
            f"{name}: "
            + ", ".join(f"{m} {_words(_row(rows, *place, ARMS[name], m))}" for m in METRICS)
            for name in ORDER
        )
        return fig, f"{title}. All settings: {every}. Bars: 95 %, t over folds or draws."

    return explore(
        draw,
        weight=choice("weight of the mask", list(ARMS)),
        images=choice("images", list(dict.fromkeys(r["data"] for r in table["levels"]))),
        labels=choice("labels", list(numbers)),
    )


def _row(rows: dict, data: str, n: int | None, arm: str, metric: str) -> dict | None:
    return rows.get((data, None if arm == "mask alone" else n, arm, metric))


def _words(row: dict | None) -> str:
    if row is None:
        return "none"
    return f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def _curve(axis: plt.Axes, found: dict, weight: str, metric: str, colour: str) -> None:
    known = [(k, row) for k, row in enumerate(found.values()) if row]
    dial = [(k, row["value"]) for k, row in known if k < 5]
    axis.plot(*zip(*dial), color=colour, linewidth=1)
    for k, row in known:
        here = ORDER[k] == weight
        ends = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        axis.errorbar(k, row["value"], ends, color=colour, capsize=3, linewidth=3 if here else 1)
        face = colour if here else "white"
        axis.plot(k, row["value"], "o", color=colour, markerfacecolor=face, markersize=9)
    axis.axvline(ORDER.index(weight), color=GREY, linewidth=0.8, linestyle=":")
    axis.set_ylabel(f"{metric}, held out")
    axis.set_xlim(-0.5, len(ORDER) - 0.5)
