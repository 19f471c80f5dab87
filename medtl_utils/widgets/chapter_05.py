"""Chapter 05: one case among all."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt

from ..data import Split
from ..plots import BLUE, GREY, ORANGE, draw_image
from .pattern import explore, slider


def case_viewer(split: Split, probability) -> ipw.VBox:
    """An image of a split -> its probability of the positive class, and where it lies among all.

    `probability`: one number an image, e.g. predict(model, split)[:, split.positive]. Where the
    split has masks, the outline of the lesion is drawn.
    """
    probability = [float(p) for p in probability]
    positive = split.classes[split.positive]

    def draw(image: int) -> tuple[plt.Figure, str]:
        truth, p = split.classes[int(split.labels[image])], probability[image]
        fig, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.7), width_ratios=[1, 1.7])
        draw_image(left, split.images[image])
        left.set_title(f"image {image}", fontweight="normal")
        right.hist(probability, bins=20, range=(0, 1), color=GREY)
        right.axvline(p, color=BLUE, linestyle="-", linewidth=3)
        right.set_title(f"P({positive}) = {p:.2f}\ntruth: {truth}", fontsize=11)
        right.set(xlabel=f"probability of {positive}", ylabel="images")
        below = sum(other < p for other in probability)
        text = (
            f"Image {image} gets a probability of {p:.2f} of being {positive}, more than "
            f"{below} of the {len(probability)} images do; in truth it is {truth}."
        )
        if split.masks is not None and bool(split.masks[image].any()):
            left.contour(split.masks[image].float(), [0.5], colors=ORANGE, linewidths=1)
            text += " The orange line is the outline of the lesion."
        return fig, text

    return explore(draw, image=slider("image", 0, len(split) - 1, 0))
