"""Chapter 02: what the layers of a ResNet answer, and what moves in training when some freeze."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn import functional as F

from ..data import Split
from ..models import BLOCKS, block_of, freeze
from ..plots import BLUE, INK, ORANGE, draw_image
from .pattern import choice, explore, slider

SHOWN = 8  # feature maps beside the image
STEPS, BATCH, RATE = 8, 16, 1e-3  # of the training in `freeze_and_train`
HELD, FOLLOW = "held still", "in training mode"  # the statistics of frozen blocks


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


# ---- freeze and train ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """One short training: what learnt, and how far everything moved."""

    learn: int  # parameters that learn
    held: int  # running means and variances that kept every bit
    losses: list[float]
    weights: dict[str, float]  # length of the change / length of the weights, in %; 0: no bit moved
    means: dict[str, float]  # mean shift of the running means in standard deviations, in %


def freeze_and_train(model, split: Split) -> ipw.VBox:
    """Freeze through a block, train eight steps -> what moved: weights, BatchNorm's statistics.

    `model`: a ResNet with its `normalisation` and a head for the split's classes. Copies of it are
    trained with Adam, each time on the same images in the same order; it stays as it is.
    """
    stream = torch.Generator().manual_seed(0)
    rows = torch.randint(len(split), (STEPS, BATCH), generator=stream)
    batches = [(model.normalisation(split.images[r]), split.labels[r]) for r in rows]
    n_parameters = sum(p.numel() for p in model.parameters())
    n_statistics = sum(b.numel() for name, b in model.named_buffers() if "running" in name)

    @functools.cache
    def trained(through: str, statistics: str) -> Trained:
        return _train(_frozen(model, through, statistics), batches)

    def draw(through: str, statistics: str) -> tuple[plt.Figure, str]:
        run = trained(through, statistics if through != "nothing" else FOLLOW)
        frozen = [] if through == "nothing" else list(BLOCKS[: BLOCKS.index(through) + 1])
        fate = f"{', '.join(frozen)}, their BatchNorm {statistics}" if frozen else "nothing"
        learn = f"{run.learn:,} of {n_parameters:,} parameters learn"
        text = (
            f"Frozen: {fate}. {learn}; {run.held:,} of {n_statistics:,} running means and "
            f"variances stay. After {STEPS} steps weights moved in {_where(run.weights)}; running "
            f"means moved in {_where(run.means)}. The loss went from {run.losses[0]:.1f} to "
            f"{run.losses[-1]:.1f}."
        )
        head = f"Frozen through {through}" if frozen else "Nothing frozen"
        return _what_moved(run, frozen, f"{head}: {learn}"), text

    place = choice("frozen through", ["nothing", *BLOCKS])
    place.value = place.choices.index("layer2")
    mode = choice("BatchNorm of the frozen blocks", [FOLLOW, HELD])
    return explore(draw, through=place, statistics=mode)


def _where(moved: dict[str, float]) -> str:
    return ", ".join(block for block, much in moved.items() if much > 0) or "no block"


def _frozen(model, through: str, statistics: str):
    """A copy of `model`, frozen through a block; its frozen BatchNorms held still, or not."""
    mode = "frozen" if statistics == HELD else "train"
    return freeze(copy.deepcopy(model), None if through == "nothing" else through, batchnorm=mode)


def _train(model, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> Trained:
    """Train `model` in place, a step a batch."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.Adam(learning, lr=RATE), []
    model.train()
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    after = model.state_dict()
    learn = sum(p.numel() for p in learning)
    running = [name for name in before if "running" in name]
    held = sum(before[n].numel() for n in running if torch.equal(before[n], after[n]))
    return Trained(learn, held, losses, _weights_moved(model, before), _means_moved(before, after))


def _weights_moved(model, before: dict[str, torch.Tensor]) -> dict[str, float]:
    change, length = (dict.fromkeys([*BLOCKS, "fc"], 0.0) for _ in range(2))
    for name, parameter in model.named_parameters():
        change[block_of(name)] += float((parameter.detach() - before[name]).square().sum())
        length[block_of(name)] += float(before[name].square().sum())
    return {block: 100 * (change[block] / length[block]) ** 0.5 for block in change}


def _means_moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict:
    shifts: dict[str, list[torch.Tensor]] = {block: [] for block in BLOCKS}
    for name in before:
        if name.endswith("running_mean"):
            sd = (before[name.replace("mean", "var")] + 1e-5).sqrt()
            shifts[block_of(name)].append((after[name] - before[name]).abs() / sd)
    return {block: 100 * float(torch.cat(parts).mean()) for block, parts in shifts.items()}


def _what_moved(run: Trained, frozen: list[str], title: str) -> plt.Figure:
    fig, (bars, curve) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(2, 1))
    places = np.arange(len(run.weights))
    means = [*run.means.values(), 0.0]
    looks = {"height": 0.36, "edgecolor": INK}
    bars.barh(
        places + 0.2,
        list(run.weights.values()),
        label="weights (% of their length)",
        color=ORANGE,
        **looks,
    )
    bars.barh(
        places - 0.2, means, label="running means (% of an SD)", color=BLUE, hatch="///", **looks
    )
    names = [f"{block} (frozen)" if block in frozen else block for block in run.weights]
    bars.set_yticks(places, names)
    bars.set(xlabel="moved (%)", xlim=(0, 1.05 * max(30, *run.weights.values(), *means)))
    bars.legend(loc="lower right")
    curve.plot(range(1, len(run.losses) + 1), run.losses, marker="o")
    curve.set(xlabel="step", ylabel="loss", ylim=(0, 1.1 * max(run.losses)))
    fig.suptitle(title, fontsize=12, fontweight="bold")
    return fig
