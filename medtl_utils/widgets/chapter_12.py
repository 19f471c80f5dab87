"""Chapter 12: the retrieval board: a sentence, and the images that are nearest to it."""

from __future__ import annotations

import textwrap

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..data import Split
from ..plots import GREEN, GREY, draw_image
from .pattern import choice, explore

SHOWN, COLUMNS, WIDTH = [4, 8, 12], 4, 78


def retrieval_board(
    split: Split, sentences: list[str], cosines: dict[str, np.ndarray], right: np.ndarray
) -> ipw.VBox:
    """Sentence, training and number of images -> the nearest images, and of which it is true.

    `split`: N images. `sentences`: M of them. `cosines`: name of a training -> (M, N). `right`:
    bool (M, N), whether the sentence is true of the image. Raises ValueError where these do not
    fit together.
    """
    right, size = np.asarray(right, bool), (len(sentences), len(split))
    for name, table in {"right": right, **cosines}.items():
        if np.shape(table) != size:
            raise ValueError(
                f"{name!r} must have a row for each sentence and a column for each image, {size}; "
                f"got {np.shape(table)}."
            )
    numbered = [f"{k + 1}: {sentence}" for k, sentence in enumerate(sentences)]

    def draw(sentence: str, training: str, shown: int) -> tuple[plt.Figure, str]:
        row = numbered.index(sentence)
        best = np.argsort(-np.asarray(cosines[training])[row], kind="stable")[:shown]
        return _board(split, sentences[row], best, right[row], training)

    return explore(
        draw,
        sentence=choice("sentence", numbered),
        training=choice("training", list(cosines)),
        shown=choice("images shown", [n for n in SHOWN if n <= len(split)] or [len(split)]),
    )


def _board(
    split: Split, sentence: str, best: np.ndarray, right: np.ndarray, training: str
) -> tuple[plt.Figure, str]:
    rows = -(-len(best) // COLUMNS)
    fig, axes = plt.subplots(rows, COLUMNS, figsize=(7.5, 1.95 * rows + 0.9), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for place, (axis, k) in enumerate(zip(axes.flat, best), 1):
        draw_image(axis, split.images[k])
        axis.axis("on")
        axis.set(xticks=[], yticks=[])
        for side in axis.spines.values():
            side.set(visible=True, color=GREEN if right[k] else GREY)
            side.set(linewidth=5 if right[k] else 1.5, linestyle="-" if right[k] else ":")
        words = "true" if right[k] else "not true"
        axis.set_title(f"{place}: {words}", fontsize=10, fontweight="normal")
    found, share = int(right[best].sum()), float(right.mean())
    lines = textwrap.wrap(f"“{sentence}”", WIDTH)
    lines.append(f"{training}: true of {found} of {len(best)}; by chance {share * len(best):.1f}")
    fig.suptitle("\n".join(lines), fontsize=11, fontweight="bold")
    each = ", ".join("true" if right[k] else "not true" for k in best)
    text = (
        f"The {len(best)} images nearest to “{sentence}”, nearest first, by {training}. "
        f"The sentence is, image by image: {each}. It is true of {int(right.sum())} of "
        f"{len(right)} images, so by chance of {share * len(best):.1f} of {len(best)} shown."
    )
    return fig, text
