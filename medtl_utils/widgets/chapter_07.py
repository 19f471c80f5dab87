"""Chapter 07: heat maps of models beside their images."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..data import Split
from ..plots import INK, ORANGE, draw_image
from .pattern import choice, explore, slider


def explanation_viewer(split: Split, maps: dict, probabilities: dict) -> ipw.VBox:
    """An image and a model -> the model's heat map beside the image, and its probability.

    `maps`: name of a model -> its heat maps (N, H, W), not negative; `probabilities`: name -> one
    number an image, that of the positive class. Where the split has masks, the lesion's outline is
    drawn and the map is measured against it.
    """
    positive = split.classes[split.positive]

    def draw(image: int, model: str) -> tuple[plt.Figure, str]:
        heat, p = np.asarray(maps[model][image], float), float(probabilities[model][image])
        mask = None if split.masks is None else split.masks[image].numpy()
        truth = split.classes[int(split.labels[image])]
        fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.9))
        draw_image(left, split.images[image])
        left.set_title(f"image {image}: {truth}", fontsize=11, fontweight="normal")
        _draw_heat(right, heat)
        right.set_title(f"heat map of the {model} model", fontsize=11, fontweight="normal")
        if mask is not None:
            _outline(left, mask, ORANGE)
            _outline(right, mask, "white")
        fig.suptitle(f"{model}: P({positive}) = {p:.2f}", fontsize=12, fontweight="bold")
        text = (
            f"Image {image}, in truth {truth}; the {model} model says {p:.2f} for {positive}. "
            f"{_where(heat, mask)}"
        )
        return fig, text.strip()

    return explore(
        draw, image=slider("image", 0, len(split) - 1, 0), model=choice("model", list(maps))
    )


def _peak(heat: np.ndarray) -> tuple[int, int]:
    """Row and column of the highest point."""
    return np.unravel_index(heat.argmax(), heat.shape)


def _draw_heat(axis: plt.Axes, heat: np.ndarray) -> None:
    axis.imshow(heat, cmap="cividis", vmin=0, vmax=heat.max() or 1)
    if heat.max() > 0:
        row, column = _peak(heat)
        axis.plot(column, row, "X", color="white", markeredgecolor=INK, markersize=11)
    axis.axis("off")


def _outline(axis: plt.Axes, mask: np.ndarray, color: str) -> None:
    axis.contour(mask, levels=[0.5], colors=[color], linestyles="--", linewidths=1.8)


def _where(heat: np.ndarray, mask: np.ndarray | None) -> str:
    """Where the map lies, in words; nothing is said about a lesion without a mask."""
    if not heat.max() > 0:
        return "The map is empty: nothing speaks for the class."
    if mask is None:
        return ""
    place, share = "inside" if mask[_peak(heat)] else "outside", heat[mask].sum() / heat.sum()
    return (
        f"The highest point (X) lies {place} the lesion (dashed), "
        f"which holds {share:.0%} of the map."
    )
