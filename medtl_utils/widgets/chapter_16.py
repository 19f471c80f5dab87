"""Chapter 16: the sample-size dial: how wide will the interval of a test's AUC be?"""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..plots import BLUE, GREY, ORANGE
from ..sample_size import Z, auc_error
from .pattern import choice, explore

AUCS = [0.85, 0.6, 0.7, 0.8, 0.9, 0.95]
ILL = [40, 1, 5, 10, 20, 50]  # percent
PATIENTS = [24, 50, 100, 200, 400, 1000, 3000]
WANTED = 0.1  # the width that is usually asked for


def sample_size_dial() -> ipw.VBox:
    """Expected AUC, share of ill people, number of tested patients -> width of the 95 % interval.

    The standard error is that of `sample_size.auc_error`.
    """

    def draw(auc: float, ill: int, patients: int) -> tuple[plt.Figure, str]:
        expected, enough = patients * ill / 100, _enough(auc, ill)
        width = _width(auc, ill, patients) if expected >= 2 else None
        start = f"With {patients:,} tested patients, {ill} % of them ill"
        if width is None:
            text = f"{start} ({expected:.1f}), no interval can be planned: at least 2 are needed. "
        else:
            text = (
                f"{start} ({expected:.0f}), the 95 % interval of an AUC of {auc:g} is expected to "
                f"be {width:.2f} wide. "
            )
        text += (
            f"For a width of {WANTED:g} the test needs {enough:,} patients. The curve falls with "
            "the square root: four times the patients halve the width."
        )
        return _figure(auc, ill, patients, width, enough), text

    return explore(
        draw,
        auc=choice("AUC that you expect", AUCS),
        ill=choice("ill people in %", ILL),
        patients=choice("tested patients", PATIENTS),
    )


def _width(auc: float, ill: int, patients: int) -> float:
    return 2 * Z * auc_error(auc, ill / 100, patients)


def _enough(auc: float, ill: int) -> int:
    """The smallest number of patients whose interval is as narrow as WANTED."""
    low, high = 2, 10**6
    while low < high:
        middle = (low + high) // 2
        if _width(auc, ill, middle) <= WANTED:
            high = middle
        else:
            low = middle + 1
    return low


def _figure(auc: float, ill: int, patients: int, width: float | None, enough: int) -> plt.Figure:
    fig, axis = plt.subplots(figsize=(7.5, 3.4))
    numbers = np.geomspace(max(20, 200 / ill), 20_000, 200)
    axis.plot(numbers, [_width(auc, ill, n) for n in numbers], color=BLUE, linestyle="-")
    axis.axhline(WANTED, color=GREY, linestyle=":")
    axis.plot(enough, WANTED, "s", color=GREY)
    axis.annotate(f"{enough:,} patients", (enough, WANTED), (6, 6), textcoords="offset points")
    found = f"fewer than 2 of {patients:,} patients are ill"
    if width is not None:
        found = f"{patients:,} patients give a width of {width:.2f}"
        axis.plot(patients, width, "o", color=ORANGE, markersize=9)
        axis.annotate(
            f"{patients:,}: {width:.2f}", (patients, width), (8, 8), textcoords="offset points"
        )
    axis.set(xscale="log", xlabel="tested patients", ylabel="width of the 95 % interval")
    axis.set(ylim=(0, 0.8), xlim=(15, 25_000))
    fig.suptitle(f"An AUC of {auc:g}, {ill} % ill: {found}", fontsize=12, fontweight="bold")
    return fig
