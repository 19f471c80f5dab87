"""The figure of the evidence, for README and model card."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from medtl_utils.paths import data_folder

FIGURE = data_folder() / "results" / "evidence.svg"
FIRST = data_folder() / "results" / "evidence_first.svg"
ALL = 624  # labelled images of four folds, about
LINES = {  # arm -> name, colour, marker, line
    "scratch": ("from scratch", "#b35900", "o", "--"),
    "shapes": ("from shapes (control)", "#5f6a72", "^", ":"),
    "ultrasound": ("from simulated ultrasound", "#0072b2", "s", "-"),
}


def row_of(rows: list[dict], **wanted) -> dict:
    """The one row with these values."""
    (found,) = (row for row in rows if wanted.items() <= row.items())
    return found


def signed(row: dict) -> str:
    """+0.040 (+0.011 to +0.069), with a true minus."""
    text = "{value:+.3f} ({low:+.3f} to {high:+.3f})".format_map(row)
    return text.replace("-", "−").replace("−0.000", "0.000").replace("+0.000", "0.000")


def sizes(table: dict) -> list[int | None]:
    """Numbers of labelled images in order; None, all, comes last."""
    return sorted({row["n"] for row in table["gains"]}, key=lambda n: n or ALL)


def draw(table: dict, file: Path = FIGURE) -> None:
    """AUC against the number of labelled images, a line a start, the gain written below."""
    plt.rcParams.update({"svg.hashsalt": "evidence", "font.size": 12})
    fig, axis = plt.subplots(figsize=(8, 4.8))
    ns = sizes(table)
    for k, (arm, (label, color, marker, line)) in enumerate(LINES.items()):
        rows = [row_of(table["levels"], arm=arm, n=n, metric="auc") for n in ns]
        value, low, high = np.array([[r[e] for e in ("value", "low", "high")] for r in rows]).T
        x = np.array([n or ALL for n in ns]) * 1.03 ** (k - 1)
        look = {"marker": marker, "linestyle": line, "color": color, "capsize": 4, "linewidth": 2}
        axis.errorbar(x, value, [value - low, high - value], **look)
        axis.annotate(label, (x[-1] * 1.09, value[-1]), color=color, va="center", fontsize=12)
    gains = [row_of(table["gains"], arm="ultrasound", against="scratch", n=n) for n in ns]
    ticks = [f"{n or 'all'}\n{gain['value']:+.2f}".replace("-", "−") for n, gain in zip(ns, gains)]
    axis.set(xscale="log", xlim=(22, 2200), ylabel="AUC on real tumours, 95 % interval")
    axis.set_xticks([n or ALL for n in ns], ticks)
    axis.minorticks_off()
    axis.set_xlabel("labelled images to learn from; below: gain of ultrasound over scratch")
    axis.spines[["top", "right"]].set_visible(False)
    fig.suptitle("What a simulated source adds on 780 real breast-ultrasound images", x=0.5)
    fig.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close(fig)
