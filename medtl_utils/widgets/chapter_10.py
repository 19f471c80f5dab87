"""Chapter 10: the rounding dial: what few bits do to the weights of one layer."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import torch
from torch import nn

from ..plots import BLUE, GREY, ORANGE
from .pattern import choice, explore, slider

SCALES = ["the whole layer", "each channel"]
SHOWN = 1500  # weights in the picture


def rounding_dial(model: nn.Module, layers: list[str] | None = None) -> ipw.VBox:
    """Bits, layer, and what shares a scale -> the rounded weights, and the error of each channel.

    `model`: any network with convolutions. `layers`: names of some; None: four, from the image to
    the head. Rounding is symmetric: zero stays zero.
    """
    kernels = {n: m.weight.detach() for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    names = list(kernels)
    layers = layers or [names[k * (len(names) - 1) // 3] for k in range(4)]
    if unknown := [name for name in layers if name not in kernels]:
        raise ValueError(
            f"The model has no convolution {unknown[0]!r}. It has: {', '.join(names)}."
        )

    def draw(bits: int, layer: str, scale: str) -> tuple[plt.Figure, str]:
        w = kernels[layer].flatten(1)
        got, step = _rounded(w, bits, scale == SCALES[1])
        error = 100 * (got - w).norm(dim=1) / w.norm(dim=1)
        whole = 100 * float((got - w).norm() / w.norm())
        bound = float(((got - w).abs() / step).max())
        title = f"{layer}, {bits} bits, one scale for {scale}: error {whole:.1f} %"
        text = (
            f"{layer} with {bits} bits: {2**bits - 1} levels, one scale for {scale}. The error is "
            f"{whole:.1f} % of the weights' size over the layer, {float(error.median()):.1f} % in "
            f"the middle channel and {float(error.max()):.1f} % in the worst. No weight moves by "
            f"more than {bound:.2f} of a step."
        )
        return _figure(w, got, error, title), text

    return explore(
        draw,
        bits=slider("bits", 2, 8, 4),
        layer=choice("layer", list(layers)),
        scale=choice("one scale for", SCALES),
    )


def _rounded(w: torch.Tensor, bits: int, by_channel: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (channels, n) on a symmetric grid of 2^bits - 1 levels, and the step of the grid."""
    top = 2 ** (bits - 1) - 1
    largest = w.abs().amax(1, keepdim=True) if by_channel else w.abs().max()
    step = largest / top
    return step * torch.round(w / step), step


def _figure(w, got, error, title: str) -> plt.Figure:
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.6))
    some = torch.linspace(0, w.numel() - 1, min(SHOWN, w.numel())).long()
    x, y = w.flatten()[some], got.flatten()[some]
    left.plot(x, y, ".", color=BLUE, markersize=3)
    left.axline((0, 0), slope=1, color=GREY, linestyle=":")
    left.set(xlabel="weight in float32", ylabel="weight after rounding")
    right.plot(error.sort().values, color=ORANGE, linestyle="-")
    right.set(xlabel="channels, best to worst", ylabel="error, % of the weights' size")
    right.set_ylim(0)
    fig.suptitle(title, fontsize=12, fontweight="bold")
    return fig
