"""Calibration and subgroups in the report of `medtl_utils.run`: (HTML, words for the card)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch

from .calibration import LIMIT, calibration, reliability, too_few
from .data import Split, Task, _joined
from .evaluation import evaluate
from .plots import BLUE, GREY, INK, figure_html, plain
from .run_html import paragraph, table

MOST = 12  # groups of one column that get a row; smaller ones share the last row
COLUMNS = ["what", "value", "95 % interval", "right"]
RIGHT = {"observed : expected": "1", "intercept, slope fixed at 1": "0", "slope": "1"}
TWO_CLASSES = (
    "Of a hundred cases with a probability of 0.30, thirty should have the class. Observed : "
    "expected and the intercept tell whether the probabilities are right on the whole: below 1, "
    "and below 0, they are too high. The slope tells whether they are too far apart: below 1, too "
    "near 0 and 1. They hold for the mix of cases in this folder, not for a clinic."
)
MORE_CLASSES = (
    "Slope and intercept are for two classes. Given instead: for each class against all others, "
    "observed : expected, the cases of the class by the sum of its probabilities; and a picture "
    "of the probability of the class that the network calls, against the share of right calls."
)
UNPLANNED = (
    "Read from columns of index.csv, with limits fixed on training and validation images. "
    "Described, not tested: of several groups one is always last. A wide interval tells of few "
    "cases, not of a bad network."
)


def ill_class(split: Split) -> int:
    """Of two classes the one whose probability is judged: `positive`, else the last one."""
    return 1 if split.positive is None else split.positive


# ---- calibration ---------------------------------------------------------------------------------


def calibration_part(scores: torch.Tensor, split: Split, result: dict) -> tuple[str, str]:
    """(HTML, words) of one score a case; `result` of `evaluate`, for the Brier score."""
    two = len(split.classes) == 2
    classes = [ill_class(split)] if two else list(range(len(split.classes)))
    rows, words, few = [], [], []
    for c in classes:
        found = calibration(scores, split, c)
        if isinstance(found, str):
            few.append(found)
            continue
        found = found if two else {"observed : expected": found["observed : expected"]}
        of = "" if two else f" of {split.classes[c]}"
        for name, values in found.items():
            rows.append([f"{name}{of}", *_with_ends(*values), RIGHT[name]])
            words.append(f"{name}{of} {' ('.join(rows[-1][1:3])})")
    brier = [f"{value:.3f}" for value in result["brier"]]
    rows.append(["Brier score", brier[0], f"{brier[1]} to {brier[2]}", "0"])
    words.append(f"Brier score {brier[0]} ({brier[1]} to {brier[2]})")
    caption = f"Calibration for {split.classes[classes[0]]}" if two else "Calibration by class"
    parts = [paragraph(TWO_CLASSES if two else MORE_CLASSES), *map(paragraph, map(_begun, few))]
    parts += [table(COLUMNS, rows, caption), _diagram(scores, split, two)]
    return "".join(parts), "; ".join([*few, *words]) + "."


def _begun(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _with_ends(value: float, low: float, high: float) -> list[str]:
    """A value and its interval as two cells."""
    if not np.isfinite(value):
        return ["cannot be estimated", "the probabilities keep the classes apart, or all agree"]
    ends = [f"{end:.2f}" if abs(end) < LIMIT else f"beyond {end:.0f}" for end in (low, high)]
    return [f"{value:.2f}", " to ".join(ends)]


def _diagram(scores: torch.Tensor, split: Split, two: bool) -> str:
    """The reliability diagram: of the ill class, or of the class that is called."""
    probabilities, labels = np.asarray(scores, np.float64), split.labels.numpy()
    if two:
        p, y = probabilities[:, ill_class(split)], labels == ill_class(split)
        name = split.classes[ill_class(split)]
        across, up = f"predicted probability of {name}", f"observed share of {name}"
    else:
        p, y = probabilities.max(1), probabilities.argmax(1) == labels
        across, up = "probability of the class that is called", "share of right calls"
    found = reliability(p, y)
    fig, axis = plt.subplots(figsize=(5.4, 4.6))
    axis.plot([0, 1], [0, 1], linestyle=":", color=GREY, label="right")
    x, share, low, high, _ = found.T
    axis.vlines(x, low, high, color=BLUE, linewidth=2)
    axis.plot(x, share, "o", color=INK, label="cases of one bin")
    axis.set(xlabel=plain(across), ylabel=plain(up), xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axis.set_aspect("equal")
    axis.legend(loc="upper left", fontsize=10)
    fig.suptitle("Predicted and observed: right is the diagonal", fontsize=12, fontweight="bold")
    told = [f"{a:.2f}: {b:.2f} ({c:.2f} to {d:.2f}), {n:.0f} cases" for a, b, c, d, n in found]
    independent = "" if split.patients is not None else " Each image counts as independent."
    return figure_html(
        fig, f"{up} by {across}, exact 95 % intervals in bins: {'; '.join(told)}.{independent}"
    )


# ---- subgroups -----------------------------------------------------------------------------------


def subgroups_part(scores: torch.Tensor, split: Split, task: Task) -> tuple[str, str]:
    """(HTML, words): cases and AUC in each group of the columns site and age, where they are.

    A patient stands where her first image does.
    """
    whole = _joined(task.train, task.val)
    parts, words = [], []
    for column in ("site", "age"):
        mine, known = ((s.descriptors or {}).get(column) for s in (split, whole))
        if mine is None or known is None:
            continue
        groups = _bands(mine, known) if column == "age" else _sites(mine)
        rows = [[name, *_group(scores[rows], split[rows])] for name, rows in groups.items()]
        unit = "patients" if split.patients is not None else "images"
        head = [column, unit, "of each class", "AUC", "95 % interval"]
        parts.append(table(head, rows, f"By {column}"))
        told = [f"{row[0]}: {row[3]}" + f" ({row[4]})" * bool(row[4]) for row in rows]
        words.append(f"AUC by {column}. {', '.join(told)}")
    if not parts:
        none = "There is no column site or age in a table index.csv, so no subgroup can be shown"
        return paragraph(f"{none}. Add them: a network may fail in one hospital or age only."), none
    return paragraph(UNPLANNED) + "".join(parts), "; ".join(words) + "."


def _group(scores: torch.Tensor, split: Split) -> list[str]:
    """Cells of one group: cases, cases of each class, AUC and its interval, or "too few"."""
    n = len(split)
    counts = np.bincount(split.labels.numpy(), minlength=len(split.classes))
    each = ", ".join(f"{k} {name}" for k, name in zip(counts, split.classes))
    judged = [ill_class(split)] if len(split.classes) == 2 else range(len(split.classes))
    if n == 0 or too_few(split, list(judged)):
        return [str(n), each, "too few", ""]
    value, low, high = evaluate(scores, split)["auc"]
    return [str(n), each, f"{value:.2f}", f"{low:.2f} to {high:.2f}"]


def _sites(values: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> rows; the largest first, small ones together, unknown ones last."""
    names, counts = np.unique(values[values != ""], return_counts=True)
    order = names[np.argsort(-counts, kind="stable")]
    shown = order if len(order) <= MOST else order[: MOST - 1]
    groups = {str(name): np.flatnonzero(values == name) for name in shown}
    if len(shown) < len(order):
        others = f"{len(order) - len(shown)} smaller sites together"
        groups[others] = np.flatnonzero(np.isin(values, order[len(shown) :]))
    unknown = np.flatnonzero(values == "")
    return groups | ({"(no site given)": unknown} if len(unknown) else {})


def _bands(values: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> rows: three bands, cut at thirds of the `known` ages, and unknown ones last."""
    finite = known[np.isfinite(known)]
    cuts: list[float] = []
    if len(finite):
        thirds = np.quantile(finite, [1 / 3, 2 / 3], method="nearest")
        cuts = np.unique(thirds.round(1)).tolist()
    groups: dict[str, np.ndarray] = {}
    for low, high in zip([-np.inf, *cuts], [*cuts, np.inf]):
        parts = [
            f"above {low:g}" if low > -np.inf else "",
            f"up to {high:g}" if high < np.inf else "",
        ]
        rows = np.flatnonzero((values > low) & (values <= high))
        groups[", ".join(filter(None, parts)) or "any age"] = rows
    unknown = np.flatnonzero(~np.isfinite(values))
    return groups | ({"unknown": unknown} if len(unknown) else {})
