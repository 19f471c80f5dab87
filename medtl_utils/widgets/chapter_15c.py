"""Chapter 15c: a model for gene expression that is pulled more or less towards its source."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..metrics import delong
from ..plots import BLUE, GREY, INK, ORANGE
from .pattern import choice, explore, slider

PENALTIES = [0.001, 0.01, 0.1, 1, 10, 100, 1000]
LABELS = [5, 10, 20]  # labelled women of each class


def pull_to_source(K, y, start, seed: int = 15) -> ipw.VBox:
    """Penalty, labelled women and draw -> the scores of the other women, and their AUC.

    `K`: products of the women's standardised expression, float (N, N). `y`: bool (N,), true for
    positive. `start`: scores of the source's weights, float (N,). Ridge regression on labels -1
    and 1, pulled towards the source (L2-SP); intervals after DeLong, over the women not drawn.
    """
    K, y, start = np.asarray(K, float), np.asarray(y, bool), np.asarray(start, float)

    def draw(penalty: float, labels: int, number: int) -> tuple[plt.Figure, str]:
        drawn = _drawn(y, labels, number, seed)
        rest = np.setdiff1d(np.arange(len(y)), drawn)
        scores = {p: _scores(K, y, start, drawn, rest, p) for p in PENALTIES}
        found = {p: delong(s, y[rest]) for p, s in scores.items()}
        as_it_is = delong(start[rest], y[rest])
        words = (
            f"Draw {number}, {labels} labelled women of each class, penalty {penalty}: the AUC of "
            f"the other {len(rest)} women is {_words(found[penalty])}. The source as it is gives "
            f"{_words(as_it_is)}. Over all penalties the AUC goes from "
            f"{min(f['auc'] for f in found.values()):.2f} to "
            f"{max(f['auc'] for f in found.values()):.2f}."
        )
        return _figure(scores[penalty], y[rest], found, penalty, as_it_is["auc"]), words

    return explore(
        draw,
        penalty=choice("penalty", PENALTIES),
        labels=choice("labelled women of each class", LABELS),
        number=slider("draw", 1, 20, 1),
    )


def _drawn(y: np.ndarray, labels: int, number: int, seed: int) -> np.ndarray:
    """Indices of `labels` women of each class, in another choice for each `number`."""
    rng = np.random.default_rng([seed, labels, number - 1])
    classes = [np.flatnonzero(y == c) for c in (False, True)]
    return np.concatenate([rng.permutation(rows)[:labels] for rows in classes])


def _scores(K, y, start, drawn, rest, penalty: float) -> np.ndarray:
    """L2-SP in its dual form: the source's scores, and a ridge fit of what they leave over."""
    left = np.where(y[drawn], 1.0, -1.0) - start[drawn]
    inner = K[np.ix_(drawn, drawn)] + penalty * np.eye(len(drawn))
    return start[rest] + K[np.ix_(rest, drawn)] @ np.linalg.solve(inner, left)


def _words(found: dict) -> str:
    return f"{found['auc']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _figure(score, y, found: dict, penalty: float, as_it_is: float) -> plt.Figure:
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2), width_ratios=[1, 1.3])
    jitter = np.random.default_rng(0).uniform(-0.2, 0.2, len(score))
    for c, color, marker in ((0, BLUE, "o"), (1, ORANGE, "^")):
        rows = y == c
        left.scatter(c + jitter[rows], score[rows], s=18, color=color, marker=marker)
    left.set_xticks([0, 1], ["negative", "positive"])
    left.set(xlabel="receptor status", ylabel="score")
    value, low, high = (np.array([f[k] for f in found.values()]) for k in ("auc", "low", "high"))
    right.vlines(PENALTIES, low, high, color=BLUE, linewidth=2)
    right.plot(PENALTIES, value, "o", color=BLUE)
    right.plot(penalty, found[penalty]["auc"], "D", color=INK, markersize=10, label="chosen")
    right.axhline(as_it_is, color=GREY, linestyle="--", label="source as it is")
    right.set(xscale="log", xlabel="penalty (right: stay with the source)", ylim=(0.4, 1.02))
    right.set_ylabel("AUC, 95 % interval")
    right.legend(loc="lower right")
    fig.suptitle("How far should the source hold the weights?", fontsize=12, fontweight="bold")
    return fig
