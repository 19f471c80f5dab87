"""Chapters 00 and 01: what a source adds to training from scratch, by number of labelled images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..plots import BLUE, GREEN, GREY, INK, ORANGE
from .pattern import choice, explore

ALL, ALL_IMAGES = "all", 624  # a table's null, and how many images it stands for, about
BASES = ("scratch", "random")  # what the other starts are compared with
LINES = {  # start -> its name, colour, marker, line
    **dict.fromkeys(BASES, ("from scratch", ORANGE, "o", "--")),
    "ultrasound": ("simulated ultrasound", BLUE, "s", "-"),
    "shapes": ("the control (shapes)", GREEN, "^", "-."),
    "digits": ("handwritten digits", GREEN, "^", "-."),
}
Found = tuple[str, int | str, tuple[float, float, float]]  # start, labels, value with its interval


def transfer_against_n(table: dict, test: str = "simulated") -> ipw.VBox:
    """Number of labelled images -> AUC of each start, and its gain over no source, with intervals.

    `table`: data/results/learning_curve.json, evidence_first.json or evidence.json as a dict.
    `test`: which test set of the learning curve; the evidence has one. Raises ValueError where the
    table has no such test set.
    """
    curves = _evidence(table) if "gains" in table else _learning_curve(table, test)

    def draw(n: int | str) -> tuple[plt.Figure, str]:
        return _figure(curves, n), _in_words(curves, n)

    return explore(draw, n=choice("labelled images", curves.numbers))


@dataclass
class _Curves:
    """start -> number of labels -> (value, low, high), of levels and of gains over `base`."""

    levels: dict[str, dict]
    gains: dict[str, dict]
    kind: str  # of the test images: real, simulated
    interval: str  # what the intervals are, and what they cover

    @property
    def base(self) -> str:
        return next(start for start in BASES if start in self.levels)

    @property
    def numbers(self) -> list[int | str]:
        return sorted(self.levels[self.base], key=_place)


def _place(n: int | str) -> int:
    return ALL_IMAGES if n == ALL else n


def _by_start(found: Iterator[Found]) -> dict[str, dict]:
    """The starts that have a line, in the order of LINES."""
    rows: dict[str, dict] = {start: {} for start in LINES}
    for start, n, row in found:
        if start in LINES:
            rows[start][ALL if n is None else n] = row
    return {start: row for start, row in rows.items() if row}


def _evidence(table: dict) -> _Curves:
    row = lambda r: (r["arm"], r["n"], (r["value"], r["low"], r["high"]))
    covers = "95 %, over groups of images and trainings of the source"
    return _Curves(
        _by_start(row(r) for r in table["levels"] if r["metric"] == "auc"),
        _by_start(row(r) for r in table["gains"] if r["against"] in BASES),
        "real",
        table.get("interval", covers),
    )


def _learning_curve(table: dict, test: str) -> _Curves:
    row = lambda r, value: (r["source"], r["n_train"], (r[value], r["low"], r["high"]))
    here = lambda r: r["test"] == test and r.get("metric", "auc") == "auc"
    levels = _by_start(row(r, "auc") for r in table["levels"] if here(r))
    if not set(BASES) & set(levels):
        has = ", ".join(sorted({r["test"] for r in table["levels"]}))
        raise ValueError(f"No test set {test!r}. It has: {has}.")
    gains = _by_start(row(r, "difference") for r in table["summary"] if here(r))
    kind = "simulated" if test == "simulated" else "real"
    return _Curves(levels, gains, kind, "95 %, over the test set and training seeds")


def _level(row) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*row)


def _gain(row) -> str:
    return "{:+z.2f} ({:+z.2f} to {:+z.2f})".format(*row)  # z: no "-0.00"


def _verdict(row) -> str:
    _, low, high = row
    if low <= 0 <= high:
        return "zero is inside: we cannot say whether it helps"
    return "zero is outside: here it helped" if low > 0 else "zero is outside: here it did harm"


def _labelled(n: int | str) -> str:
    return f"all labelled images (about {ALL_IMAGES})" if n == ALL else f"{n} labelled images"


def _in_words(curves: _Curves, n: int | str) -> str:
    """The picture's message: each level, each gain, and what the interval of a gain says."""
    base = _level(curves.levels[curves.base][n])
    parts = [f"With {_labelled(n)} the AUC on {curves.kind} images is {base} from scratch."]
    for start, gains in curves.gains.items():
        name, level = LINES[start][0], _level(curves.levels[start][n])
        parts.append(f"With {name} it is {level}: gain {_gain(gains[n])}; {_verdict(gains[n])}.")
    return " ".join([*parts, f"Intervals: {curves.interval}."])


def _figure(curves: _Curves, n: int | str) -> plt.Figure:
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.1), width_ratios=[1.5, 1])
    _draw_levels(left, curves, n)
    _draw_gains(right, curves, n)
    start, gains = next(iter(curves.gains.items()))
    title = f"{n} labelled images: {LINES[start][0]} adds {_gain(gains[n])} to the AUC"
    fig.suptitle(title, fontsize=12, fontweight="bold")
    return fig


def _draw_levels(axis: plt.Axes, curves: _Curves, n: int | str) -> None:
    """AUC against the number of labels, side by side; the chosen number on a grey band."""
    axis.axvspan(_place(n) / 1.2, _place(n) * 1.2, color=GREY, alpha=0.2, linewidth=0)
    for k, (start, rows) in enumerate(curves.levels.items()):
        name, color, marker, line = LINES[start]
        value, low, high = np.array([rows[m] for m in rows if m in curves.numbers]).T
        at = np.array([_place(m) for m in rows]) * 1.07 ** (k - 1)
        order = np.argsort(at)
        whiskers = np.array([value - low, high - value])[:, order]
        look = {"color": color, "marker": marker, "linestyle": line, "capsize": 4}
        axis.errorbar(at[order], value[order], whiskers, label=name, **look)
    axis.set_xscale("log")
    axis.set_xticks([_place(m) for m in curves.numbers], [str(m) for m in curves.numbers])
    axis.minorticks_off()
    axis.set(xlabel="labelled images", ylabel=f"AUC, {curves.kind} images, 95 % interval")
    axis.legend(loc="lower right", fontsize=10)


def _draw_gains(axis: plt.Axes, curves: _Curves, n: int | str) -> None:
    """The gain of each source over scratch with the chosen number; zero is marked."""
    reach = [end for gains in curves.gains.values() for row in gains.values() for end in row]
    axis.axvline(0, color=GREY, linestyle=":", zorder=0)
    for place, (start, gains) in enumerate(curves.gains.items()):
        name, color, marker, _ = LINES[start]
        value, low, high = gains[n]
        axis.plot([low, high], [place, place], color=color, linestyle="-", linewidth=3)
        axis.plot(value, place, marker, color=INK, markersize=8, linestyle="none")
        words = f"{name}\n{_gain(gains[n])}"
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        across = axis.get_yaxis_transform()
        axis.text(0.02, place - 0.2, words, va="bottom", transform=across, bbox=paper)
    axis.set(xlim=(min(-0.05, *reach) - 0.02, max(0.05, *reach) + 0.02), yticks=[])
    axis.set(ylim=(len(curves.gains) - 0.5, -0.9), xlabel="gain in AUC over scratch, 95 % interval")
    axis.spines["left"].set_visible(False)
