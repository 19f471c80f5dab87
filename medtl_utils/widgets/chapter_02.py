"""Chapter 02: what the layers of a ResNet answer, and what freezing leaves to learn."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import torch

from ..data import Split
from ..models import BLOCKS, block_of
from ..plots import INK, ORANGE, draw_image
from .pattern import choice, explore, slider

SHOWN = 8  # feature maps beside the image


def feature_maps(model, split: Split) -> ipw.VBox:
    """A layer and an image -> the image, and the layer's eight feature maps that vary most.

    `model`: a ResNet with its `normalisation`; it looks in evaluation mode and is left in the mode
    it was in.
    """

    def draw(layer: str, image: int) -> tuple[plt.Figure, str]:
        maps = _maps(model, layer, split.images[[image]])
        spread = maps.flatten(1).std(1)
        chosen = spread.argsort(descending=True, stable=True)[:SHOWN].tolist()
        truth = split.classes[int(split.labels[image])]
        fig = _image_and_maps(split.images[image], maps, chosen)
        fig.axes[0].set_title(f"image {image}: {truth}", fontsize=11, fontweight="normal")
        title = f"{layer}: {len(maps)} feature maps of {_size(maps)}"
        fig.suptitle(title, fontsize=12, fontweight="bold")
        return fig, _maps_in_words(maps, chosen, f"Image {image} ({truth})", layer)

    return explore(
        draw, layer=choice("layer", list(BLOCKS)), image=slider("image", 0, len(split) - 1, 0)
    )


def _maps(model, layer: str, images: torch.Tensor) -> torch.Tensor:
    """The maps (channels, H, W) of `layer` for the first of `images`, in evaluation mode."""
    caught, mode = [], model.training
    module = model.maxpool if layer == "stem" else getattr(model, layer)
    handle = module.register_forward_hook(lambda _module, _in, output: caught.append(output[0]))
    try:
        with torch.no_grad():
            model.eval()(model.normalisation(images))
    finally:
        handle.remove()
        model.train(mode)
    return caught[0]


def _size(maps: torch.Tensor) -> str:
    return "×".join(map(str, maps.shape[1:]))


def _image_and_maps(image: torch.Tensor, maps: torch.Tensor, chosen: list[int]) -> plt.Figure:
    fig = plt.figure(figsize=(8.4, 3.5))
    grid = fig.add_gridspec(2, 6)
    draw_image(fig.add_subplot(grid[:, :2]), image)
    for place, channel in enumerate(chosen):
        axis = fig.add_subplot(grid[place // 4, 2 + place % 4])
        axis.imshow(maps[channel].numpy(), cmap="gray")
        axis.set_title(f"channel {channel}", fontsize=10, fontweight="normal")
        axis.axis("off")
    return fig


def _maps_in_words(maps: torch.Tensor, chosen: list[int], image: str, layer: str) -> str:
    silent = float((maps.flatten(1).amax(1) == 0).float().mean())
    return (
        f"{image} and the eight of {len(maps)} feature maps of {layer} that vary most: "
        f"channels {', '.join(map(str, chosen))}, each of {_size(maps)} squares, "
        f"bright where the channel answers. {silent:.0%} of the maps "
        "are silent on this image (zero everywhere)."
    )


def freeze_slider(model) -> ipw.VBox:
    """Freeze through a block -> what learns and what stays, BatchNorm's statistics included.

    `model`: a ResNet with its new head; it is only counted, not changed.
    """
    weights, statistics = _count(model)

    def draw(through: str) -> tuple[plt.Figure, str]:
        frozen = [] if through == "nothing" else list(BLOCKS[: BLOCKS.index(through) + 1])
        learn = sum(n for block, n in weights.items() if block not in frozen)
        learn = f"{learn:,} of {sum(weights.values()):,} parameters learn"
        stay = sum(statistics[block] for block in frozen)
        head = f"Frozen through {through}" if frozen else "Nothing frozen"
        fig = _stack(weights, statistics, frozen, f"{head}: {learn}")
        text = (
            "Six boxes from the stem, next to the image, up to the head. "
            f"Frozen: {', '.join(frozen) or 'nothing'}. {learn}; "
            f"{stay:,} of {sum(statistics.values()):,} running means and "
            "variances of BatchNorm are held still."
        )
        return fig, text

    return explore(draw, through=choice("frozen through", ["nothing", *BLOCKS]))


def _count(model) -> tuple[dict[str, int], dict[str, int]]:
    """Parameters, and running means and variances, of each block and of the head."""
    weights = dict.fromkeys([*BLOCKS, "fc"], 0)
    statistics = dict.fromkeys([*BLOCKS, "fc"], 0)
    for name, parameter in model.named_parameters():
        weights[block_of(name)] += parameter.numel()
    for name, buffer in model.named_buffers():
        if "running" in name:
            statistics[block_of(name)] += buffer.numel()
    return weights, statistics


def _stack(weights: dict, statistics: dict, frozen: list[str], title: str) -> plt.Figure:
    fig, axis = plt.subplots(figsize=(8.4, 3.6))
    for height, block in enumerate(weights):
        n, s = weights[block], statistics[block]
        if block in frozen:
            look = {"facecolor": "#dbe9f6", "linestyle": "--"}
            fate = f"FROZEN: {n:,} parameters and {s:,} statistics stay"
        else:
            look = {"facecolor": ORANGE, "linestyle": "-"}
            follow = "" if block == "fc" else f", {s:,} statistics follow"
            fate = f"learns: {n:,} parameters{follow}"
        axis.add_patch(plt.Rectangle((0, height), 2.2, 0.85, edgecolor=INK, **look))
        name = "head (fc)" if block == "fc" else block
        axis.text(1.1, height + 0.42, name, ha="center", va="center", color=INK)
        axis.text(2.4, height + 0.42, fate, va="center", color=INK)
    axis.set_title(title, loc="left")
    axis.set(xlim=(-0.05, 8.4), ylim=(-0.1, len(weights)))
    axis.axis("off")
    return fig
