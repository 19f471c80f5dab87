"""Chapter 07: heat maps of several models over the same image."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..data import Split
from ..plots import INK, draw_image
from .pattern import choice, explore, slider


def explanation_viewer(
    split: Split, maps: dict, probabilities: dict, static: bool = True
) -> ipw.VBox:
    """An image and a kind of map -> the map of each model over the image, and its probability.

    `maps`: name of a model -> name of the kind -> heat maps (N, H, W), not negative; every model
    has the same kinds. `probabilities`: name of a model -> one number per image, that of the
    positive class. Where the split has masks, the lesion's outline is drawn and the map is
    measured against it. `static=False`: without the static figure below.
    """
    positive, kinds = split.classes[split.positive], list(next(iter(maps.values())))

    def draw(image: int, kind: str) -> tuple[plt.Figure, str]:
        mask = None if split.masks is None else split.masks[image].numpy()
        truth = split.classes[int(split.labels[image])]
        fig, axes = plt.subplots(1, 1 + len(maps), figsize=(2.6 * (1 + len(maps)), 3.3))
        draw_image(axes[0], split.images[image])
        axes[0].set_title(f"image {image}: {truth}", fontsize=11, fontweight="normal")
        said = [f"Image {image}, in truth {truth}; map: {kind}."]
        for axis, (model, of_kind) in zip(axes[1:], maps.items()):
            heat, p = np.asarray(of_kind[kind][image], float), float(probabilities[model][image])
            draw_image(axis, split.images[image])
            _draw_heat(axis, heat)
            name = f"{model}: P({positive}) {p:.2f}"
            axis.set_title(name, fontsize=11, fontweight="normal")
            where = _where(heat, mask)
            said.append(f"The {model} model says {p:.2f} for {positive}. {where}".strip())
        if mask is not None and mask.any():
            for axis in axes:
                axis.contour(mask, levels=[0.5], colors=["white"], linestyles="--", linewidths=1.5)
        fig.suptitle(f"Map over the image: {kind}", fontsize=12, fontweight="bold")
        return fig, " ".join(said)

    controls = {"image": slider("image", 0, len(split) - 1, 0), "kind": choice("map", kinds)}
    return explore(draw, static, **controls)


def _peak(heat: np.ndarray) -> tuple[int, int]:
    """Row and column of the highest point."""
    return np.unravel_index(heat.argmax(), heat.shape)


def _draw_heat(axis: plt.Axes, heat: np.ndarray) -> None:
    """The map over a picture: the higher, the less can be seen through it; X is the highest."""
    if heat.max() > 0:
        share = heat / heat.max()
        axis.imshow(share, cmap="plasma", vmin=0, vmax=1, alpha=0.7 * share)
        row, column = _peak(heat)
        axis.plot(column, row, "X", color="white", markeredgecolor=INK, markersize=10)


def _where(heat: np.ndarray, mask: np.ndarray | None) -> str:
    """Where the map lies, in words; nothing is said about a lesion without a mask."""
    if not heat.max() > 0:
        return "Its map is empty: nothing speaks for the class."
    if mask is None:
        return ""
    if not mask.any():
        return "There is no lesion in the picture, and the map lights up."
    place, share = "inside" if mask[_peak(heat)] else "outside", heat[mask].sum() / heat.sum()
    return (
        f"Its highest point (X) lies {place} the lesion (dashed), "
        f"which holds {share:.0%} of the map."
    )
