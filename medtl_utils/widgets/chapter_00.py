"""Chapter 00 (and 01): what a source buys, by the number of labelled images."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt

from ..plots import BLUE, GREEN, GREY, INK, ORANGE
from .pattern import choice, explore

Rows = dict[str, dict[int, dict]]  # source -> labelled images -> row of the table


def transfer_against_n(table: dict, test: str = "official") -> ipw.VBox:
    """Number of labelled images -> what each source of a kept table gains over no source.

    `table`: data/results/breastmnist_evidence.json or learning_curve.json as a dict. `test`: which
    of its test sets, "official" or "twin-free" (real images) or "simulated". Raises ValueError
    where the table has no such test set.
    """
    rows = _auc_rows(table, test)
    kind = "simulated" if test == "simulated" else "real"

    def draw(n: int) -> tuple[plt.Figure, str]:
        return _curves(rows, n), _in_words(rows, n, kind)

    return explore(draw, n=choice("labelled images", list(_first(rows))))


def _auc_rows(table: dict, test: str) -> Rows:
    rows: Rows = {}
    for row in table["summary"]:
        if row["metric"] == "auc" and row["test"] == test:
            rows.setdefault(row.get("source", "transfer"), {})[row["n_train"]] = row
    if not rows:
        has = ", ".join(sorted({row["test"] for row in table["summary"]}))
        raise ValueError(f"No test set {test!r}. It has: {has}.")
    return rows


def _first(rows: Rows) -> dict[int, dict]:
    """The rows of the first source; training from scratch (`b`) is the same for all sources."""
    return next(iter(rows.values()))


def _gain(row: dict) -> str:
    return f"{row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"


def _curves(rows: Rows, n: int) -> plt.Figure:
    first = _first(rows)
    numbers = list(first)
    scratch = [first[k]["b"] for k in numbers]
    fig, axis = plt.subplots(figsize=(6.5, 3.4 + 0.2 * len(rows)))
    axis.plot(numbers, scratch, color=ORANGE, linestyle="--", marker="o", label="from scratch")
    for (source, row), color, line in zip(rows.items(), (BLUE, GREEN), ("-", "-.")):
        auc = [row[k]["a"] for k in numbers]
        axis.plot(numbers, auc, color=color, linestyle=line, marker="o", label=source)
    axis.axvline(n, color=GREY, linestyle=":")
    axis.plot([n, n], [first[n]["b"], first[n]["a"]], color=INK, linestyle="-", linewidth=3)
    axis.set_xscale("log")
    axis.set_xticks(numbers, [str(k) for k in numbers])
    axis.minorticks_off()
    axis.set(title=_title(rows, n), xlabel="labelled images", ylabel="AUC")
    axis.legend(loc="lower right")
    return fig


def _title(rows: Rows, n: int) -> str:
    if len(rows) == 1:
        return f"{n} labelled images: gain {_gain(_first(rows)[n])}"
    lines = [f"{source}: gain {_gain(row[n])}" for source, row in rows.items()]
    return "\n".join([f"{n} labelled images", *lines])


def _in_words(rows: Rows, n: int, kind: str) -> str:
    sources = "; ".join(
        f"{row[n]['a']:.2f} with {source}, a gain of {_gain(row[n])}"
        for source, row in rows.items()
    )
    scratch = f"{_first(rows)[n]['b']:.2f} from scratch"
    return f"With {n} labelled {kind} images the AUC is {scratch} and {sources}."
