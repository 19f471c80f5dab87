"""Chapter 09: the adapter dial: which numbers of a ResNet-18 move, how many, and what it costs."""

from __future__ import annotations

import functools

import ipywidgets as ipw
import matplotlib.pyplot as plt
from torch import nn

from ..models import make_network
from ..plots import BLUE, GREY
from .pattern import choice, explore

METHODS = ["LoRA", "residual adapter", "scale and shift", "BatchNorm only", "probe", "full"]
RANKS = [4, 1, 2, 8, 16]
BLOCKS = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
BYTES = 4  # of a number in float32
STATISTICS = "BatchNorm only"  # it also stores a mean and a variance for each channel


def adapter_dial(table: dict, target: str) -> ipw.VBox:
    """Method, rank of LoRA and labelled images -> what moves in each block, its cost, its AUC.

    `table`: data/results/unrelated_tasks.json. `target`: one of those to which it adapted the
    source "ultrasound". The network is a ResNet-18 with two outputs.
    """
    rows = {(r["method"], r["n"]): r for r in table["methods"] if r["target"] == target}
    if not rows:
        known = sorted({r["target"] for r in table["methods"]})
        raise ValueError(f"The table has no target {target!r}. Choose one of: {', '.join(known)}.")
    numbers = sorted({n for _, n in rows}, key=lambda n: n or 10**9)
    start = numbers.index(100) if 100 in numbers else 0
    labels = {"all" if n is None else str(n): n for n in numbers[start:] + numbers[:start]}

    def draw(method: str, rank: int, images: str) -> tuple[plt.Figure, str]:
        moving, of = _counts(method, rank), _whole()
        n, total = sum(moving.values()), sum(of.values())
        kept = n + (2 * _channels() if method == STATISTICS else 0)
        name = f"{method} of rank {rank}" if method == "LoRA" else method
        title = f"{name}: {n:,} numbers move, {_percent(n / total)} of the network's"
        text = (
            f"{name}. In the blocks from stem to head move: "
            + ", ".join(f"{block} {moving[block]:,}" for block in BLOCKS)
            + f". A second task adds a file of {_size(kept)}; full tuning adds {_size(total)}. "
            f"Adam keeps two more numbers for each that moves: {_size(2 * n)}. "
            + _result(rows, method, rank, labels[images], target)
            + ("" if method == "LoRA" else f" A rank of {rank} would matter to LoRA alone.")
        )
        below = f"{target}, {images} labels, LoRA's rank {rank}: "
        return _figure(moving, of, title, below + _auc(rows, method, rank, labels[images])), text

    return explore(
        draw,
        method=choice("what moves", METHODS),
        rank=choice("rank of LoRA", RANKS),
        images=choice("labelled images", list(labels)),
    )


@functools.cache
def _network() -> nn.Module:
    return make_network("resnet18", 2)


def _block(name: str) -> str:
    first = name.split(".")[0]
    return {"conv1": "stem", "bn1": "stem", "fc": "head"}.get(first, first)


def _whole() -> dict[str, int]:
    """Block -> all its numbers."""
    found = dict.fromkeys(BLOCKS, 0)
    for name, parameter in _network().named_parameters():
        found[_block(name)] += parameter.numel()
    return found


def _channels() -> int:
    """Channels of all BatchNorm layers together."""
    norms = (m for m in _network().modules() if isinstance(m, nn.BatchNorm2d))
    return sum(m.num_features for m in norms)


def _counts(method: str, rank: int) -> dict[str, int]:
    """Block -> how many numbers move; adapters stand beside every 3x3 convolution."""
    found = dict.fromkeys(BLOCKS, 0) | {"head": _whole()["head"]}
    if method == "full":
        return _whole()
    for name, m in _network().named_modules():
        more = 0
        if isinstance(m, nn.BatchNorm2d) and method in ("scale and shift", STATISTICS):
            more = 2 * m.num_features
        elif isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3):
            if method == "LoRA":
                more = rank * (9 * m.in_channels + m.out_channels)
            elif method == "residual adapter":
                more = m.in_channels * m.out_channels
        if more:
            found[_block(name)] += more
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _size(numbers: int) -> str:
    size = BYTES * numbers
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _auc(rows: dict, method: str, rank: int, n: int | None) -> str:
    if method == "LoRA" and rank != 4:
        return "not tried"
    row = rows[method, n]
    return f"AUC {row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def _result(rows: dict, method: str, rank: int, n: int | None, target: str) -> str:
    if method == "LoRA" and rank != 4:
        return "The study tried LoRA with rank 4 alone."
    images = "all labelled images" if n is None else f"{n} labelled images"
    auc = _auc(rows, method, rank, n).replace("AUC", f"AUC on {target}, {images}:")
    return auc + "."


def _figure(moving: dict, of: dict, title: str, below: str) -> plt.Figure:
    fig, axis = plt.subplots(figsize=(7.5, 3.2))
    for place, block in enumerate(BLOCKS):
        axis.barh(place, of[block], color="white", edgecolor=GREY)
        if moving[block]:
            axis.barh(place, moving[block], height=0.45, color=BLUE)
            axis.text(1.25 * of[block], place, f"{moving[block]:,}", va="center")
    axis.set_yticks(range(len(BLOCKS)), BLOCKS)
    axis.set(xscale="log", xlim=(100, 2e8), xlabel="numbers; filled: those that move")
    axis.invert_yaxis()
    fig.suptitle(title, fontsize=12, fontweight="bold")
    axis.set_title(below, fontsize=10, fontweight="normal")
    return fig
