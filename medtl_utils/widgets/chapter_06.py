"""Chapter 06: the threshold and the prevalence decide what 1,000 people get."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..data import Split
from ..metrics import bootstrap_counts, units
from ..plots import BLUE, GREY, INK, ORANGE
from .pattern import choice, explore, slider

PREVALENCES = [40, 20, 10, 5, 2, 1, 0.5]  # percent
LOOKS = {  # colour, marker and its size
    "found": (ORANGE, "s", 16),
    "missed": (INK, "X", 34),
    "false alarms": (BLUE, "^", 22),
    "cleared": (GREY, ".", 8),
}


def threshold_explorer(scores, split: Split, start: int = 50) -> ipw.VBox:
    """Threshold and prevalence -> 1,000 people sorted by the test, and the four rates.

    `scores`: probabilities (N, 2) as from `predict`, on an opened test set. `start`: the threshold
    in percent. Sensitivity and specificity are the split's; predictive values follow by Bayes'
    rule; percentile bootstrap intervals over patients.
    """
    probability = np.asarray(scores)[:, split.positive]
    y = (split.labels == split.positive).numpy()
    weights = _resampled(split)

    def draw(threshold: int, prevalence: float) -> tuple[plt.Figure, str]:
        called, ill = probability >= threshold / 100, prevalence / 100
        rates = _rates(called, y, weights, ill)
        counts = _of_thousand(rates["sensitivity"][0], rates["specificity"][0], ill)
        rows = {name: _value_low_high(draws) for name, draws in rates.items()}
        n_ill = counts["found"] + counts["missed"]
        title = f"1,000 people, {n_ill} ill; positive from {threshold} % on"
        sorted_into = ", ".join(f"{n} {name}" for name, n in counts.items())
        rest = "; ".join(f"{name} {_percent(row)}" for name, row in rows.items())
        text = (
            f"Of 1,000 people {n_ill} are ill. "
            f"With a threshold of {threshold} %: {sorted_into}. {rest}."
        )
        return _figure(counts, rows, title), text

    return explore(
        draw,
        threshold=slider("threshold, %", 1, 99, start),
        prevalence=choice("prevalence, %", PREVALENCES),
    )


def _resampled(split: Split, n_boot: int = 500) -> np.ndarray:
    """(1 + n_boot, N): how often each image counts; the first row is the test set as it is."""
    unit, stratum = units(split)
    drawn = bootstrap_counts(stratum, n_boot, np.random.default_rng(0))
    return np.concatenate([np.ones((1, len(stratum))), drawn])[:, unit]


def _rates(called, y, weights: np.ndarray, ill: float) -> dict[str, np.ndarray]:
    """The four rates, one value a row of `weights`; predictive values of nobody are nan."""
    share = lambda event, among: weights[:, among] @ event[among] / weights[:, among].sum(1)
    rates = {"sensitivity": share(called, y), "specificity": share(~called, ~y)}
    found, alarms = rates["sensitivity"] * ill, (1 - rates["specificity"]) * (1 - ill)
    with np.errstate(invalid="ignore"):
        rates["PPV"] = found / (found + alarms)
        rates["NPV"] = (1 - ill - alarms) / (1 - found - alarms)
    return rates


def _of_thousand(sensitivity: float, specificity: float, ill: float) -> dict[str, int]:
    n_ill, n_found = round(1000 * ill), round(1000 * ill * sensitivity)
    n_alarms = round((1000 - n_ill) * (1 - specificity))
    return dict(zip(LOOKS, (n_found, n_ill - n_found, n_alarms, 1000 - n_ill - n_alarms)))


def _value_low_high(draws: np.ndarray) -> np.ndarray:
    """In percent: the first draw is the value, the others give the percentile interval."""
    finite = draws[np.isfinite(draws)]
    low, high = np.quantile(finite if len(finite) else draws, [0.025, 0.975])
    return 100 * np.array([draws[0], low, high])


def _percent(row: np.ndarray) -> str:
    value, low, high = row
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def _figure(counts: dict[str, int], rows: dict[str, np.ndarray], title: str) -> plt.Figure:
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.3), width_ratios=[1.5, 1])
    _draw_people(left, counts)
    value, low, high = np.array(list(rows.values())).T
    right.hlines(range(4), low, high, color=BLUE, linewidth=2)
    right.plot(value, range(4), "o", color=INK)
    right.set_yticks(range(4), [f"{name}\n{_percent(row)}" for name, row in rows.items()])
    right.set(xlim=(-2, 102), ylim=(3.5, -0.5), xlabel="percent, 95 % interval")
    fig.suptitle(title, fontsize=12, fontweight="bold")
    return fig


def _draw_people(axis: plt.Axes, counts: dict[str, int]) -> None:
    """1,000 marks in rows of 50, in the order of `counts`."""
    groups = np.split(np.arange(1000), np.cumsum(list(counts.values()))[:-1])
    for at, (name, (color, marker, size)) in zip(groups, LOOKS.items()):
        label = f"{counts[name]} {name}"
        axis.scatter(at % 50, -(at // 50), c=color, marker=marker, s=size, label=label)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.02)}
    axis.legend(**place, ncols=2, fontsize=11, markerscale=1.4)
    axis.axis("off")
