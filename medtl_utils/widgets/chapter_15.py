"""Chapter 15: rhythm, heart rate and noise decide what an ECG and its R peaks look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..plots import BLUE, GREY, INK, ORANGE
from .pattern import choice, explore, slider

NEAR = 0.08  # seconds: a detection counts if a true R peak lies so near
NOISE = [0, 50, 100, 200, 300, 500]  # microvolts


def ecg_explorer(
    record: Callable, detect: Callable, hz: int, rhythms: Sequence[str], seconds: float = 10
) -> ipw.VBox:
    """Rhythm, heart rate and noise -> one record, its R peaks, and those that a detector finds.

    `record(rhythm, rate, noise)`: index of the rhythm, beats/min, microvolts -> (signal in mV (T,),
    times of the true R peaks in s). `detect(signal)`: sample numbers of R peaks. `hz`: sampling
    rate of both.
    """

    def draw(rhythm: str, rate: int, noise: int) -> tuple[plt.Figure, str]:
        x, beats = record(list(rhythms).index(rhythm), rate, noise)
        found = np.asarray(detect(x))
        hits, missed = _matched(found / hz, np.asarray(beats))
        rr = np.diff(beats)
        title = f"{rhythm}, {rate} beats/min, noise {noise} µV"
        text = (
            f"{title}: {len(beats)} R peaks in {seconds:g} s, RR intervals from {rr.min():.2f} to "
            f"{rr.max():.2f} s. The detector finds {hits.sum()} of them, misses {missed} and marks "
            f"{len(hits) - hits.sum()} other place(s)."
        )
        return _figure(x, np.asarray(beats), found[~hits], hz, title), text

    return explore(
        draw,
        rhythm=choice("rhythm", list(rhythms)),
        rate=slider("beats per minute", 50, 110, 70, step=5),
        noise=choice("noise, µV", NOISE),
    )


def _matched(found: np.ndarray, beats: np.ndarray) -> tuple[np.ndarray, int]:
    """(for each detection whether a true R peak is near, number of R peaks without one)."""
    near = np.abs(found[:, None] - beats) < NEAR
    return near.any(1), int((~near.any(0)).sum())


def _figure(x, beats, wrong, hz: int, title: str) -> plt.Figure:
    fig, axis = plt.subplots(figsize=(9, 2.8))
    axis.plot(np.arange(len(x)) / hz, x, color=INK, linestyle="-", linewidth=0.9)
    top = x.max() + 0.12 * np.ptp(x)
    axis.plot(beats, np.full(len(beats), top), "v", color=BLUE, label="true R peak")
    marks = {"color": ORANGE, "markersize": 9, "markeredgewidth": 2}
    axis.plot(wrong / hz, x[wrong], "x", **marks, label="detected, but no R peak")
    axis.set(title=title, xlabel="time, s", ylabel="mV", xlim=(0, len(x) / hz))
    axis.grid(color=GREY, linestyle="-", linewidth=0.3)
    axis.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, fontsize=10)
    return fig
