"""Chapter 08: one image, one slider an augmentation, and the question whether she could exist."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as ipw
import matplotlib.pyplot as plt
import torch

from ..data import Split
from ..plots import draw_image
from .pattern import Slider, choice, explore, slider

# name of an augmentation -> unit of its slider, what one unit of the strength is on it, its ends,
# step, value that changes nothing, the ends of what one may draw, and why not beyond
CONTROLS: dict[str, tuple] = {
    "gain": ("dB", 1, -20, 20, 2, 0, (-8, 8), "so bright or dark that the operator would turn it"),
    "speckle": ("% grain", 100, 0, 100, 5, 0, (0, 25), "more grain than a machine shows"),
    "shift": ("% of the width", 100, -60, 60, 5, 0, (-20, 20), "the lesion may leave the picture"),
    "scale": ("% of the size", 100, 50, 200, 5, 100, (80, 125), "no such depth setting"),
}
FLIPS = {
    "flip left-right": "",
    "flip top-bottom": "the skin lies below, and shadows point to the probe",
}
MIXUP, OTHER = "MixUp", "two women in one picture"


def augmentation_bench(split: Split, changes: dict[str, Callable], n_images: int = 4) -> ipw.VBox:
    """Image and a strength for each augmentation -> the image before and after, and a verdict.

    `split`: grey images; the first `n_images`, by turns of each class, can be chosen. `changes`:
    name (those of CONTROLS and FLIPS) -> function of images float (1, 1, H, W), 0..255, and
    strength float (1,). They are applied in the order of `changes`; MixUp comes last and adds the
    next image.
    """
    rows = _by_turns(split.labels, n_images)

    def draw(image: str, **values) -> tuple[plt.Figure, str]:
        place = names.index(image)
        before = split.images[rows[place]][None].float()
        other = split.images[rows[(place + 1) % len(rows)]][None].float()
        after = _changed_image(before, other, changes, values)
        reasons = _verdict(values)
        answer = f"No: {'; '.join(reasons)}." if reasons else "Yes, as far as the picture tells."
        used = [f"{name} {value}" for name, value in values.items() if value != _neutral(name)]
        return _figure(before, after, image, answer), (
            f"{image}, before and after: {', '.join(used) or 'nothing changed'}. Would this "
            f"patient exist? {answer} Mean grey {before.mean():.0f} before, {after.mean():.0f} "
            f"after; greys changed by {(after - before).abs().mean():.1f} on average."
        )

    names = [f"image {k + 1}, {split.classes[split.labels[row]]}" for k, row in enumerate(rows)]
    controls: dict[str, Slider] = {name: choice(name, ["no", "yes"]) for name in FLIPS}
    for name, (unit, _, low, high, step, start, *_) in CONTROLS.items():
        controls[name] = slider(f"{name}, {unit}", low, high, start, step)
    controls[MIXUP] = slider(f"{MIXUP}, % of another image", 0, 50, 0, 5)
    return explore(draw, image=choice("image", names), **controls)


def _changed_image(before, other, changes: dict[str, Callable], values: dict) -> torch.Tensor:
    """The image (1, 1, H, W) after all changes, 0..255; the same grain at every call."""
    x = before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, change in changes.items():
            if values[name] != _neutral(name):
                strength = 1.0 if name in FLIPS else values[name] / CONTROLS[name][1]
                x = change(x, torch.tensor([strength])).clamp(0, 255)
    share = values[MIXUP] / 100
    return (1 - share) * x + share * other


def _verdict(values: dict) -> list[str]:
    """Why no patient looks like this: one reason for each change that goes too far."""
    reasons = [why for name, why in FLIPS.items() if why and values[name] == "yes"]
    for name, (*_, (low, high), why) in CONTROLS.items():
        if not low <= values[name] <= high:
            reasons.append(why)
    return reasons + [OTHER] * (values[MIXUP] > 0)


def _neutral(name: str):
    """The value of a control at which nothing changes."""
    if name in FLIPS:
        return "no"
    return CONTROLS[name][5] if name in CONTROLS else 0


def _by_turns(labels: torch.Tensor, n: int) -> list[int]:
    """The first rows of each class, one class after the other."""
    of_class = [torch.nonzero(labels == c).flatten().tolist() for c in labels.unique()]
    return [row for rows in zip(*of_class) for row in rows][:n]


def _figure(before, after, image: str, answer: str) -> plt.Figure:
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.9))
    sides = ((image, before), ("augmented", after))
    for axis, (title, picture) in zip(axes, sides):
        draw_image(axis, picture[0].round().to(torch.uint8))
        axis.set_title(title, fontsize=11, fontweight="normal")
    short = answer.split(";")[0].rstrip(".")
    fig.suptitle(f"Would this patient exist? {short}", fontsize=11, fontweight="bold")
    return fig
