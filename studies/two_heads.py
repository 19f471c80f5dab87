"""One trunk, several specific heads: the network, its losses, and ways to join the gradients.

The stem, layer1 and layer2 of the source are frozen, so their maps are computed once. layer3 is
shared and trained.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from medtl_utils.data import Split
from medtl_utils.models import set_batchnorm
from medtl_utils.phantom import DESCRIPTORS
from medtl_utils.training import autocast, best_device

UPDATES, BATCH, WIDTH = 48, 12, 32
RATE, RATE_OF_HEADS, RATE_OF_S = 1e-3, 1e-2, 0.1
Maps = list[torch.Tensor]


@torch.no_grad()
def frozen_maps(images: torch.Tensor, source: nn.Module) -> Maps:
    """uint8 (N, C, H, W) -> the outputs of layer1 (N, 64, h, w) and layer2 (N, 128, h/2, w/2)."""
    s, found = source.eval(), []
    for part in images.split(64):
        x = s.maxpool(s.relu(s.bn1(s.conv1(s.normalisation(part)))))
        first = s.layer1(x)
        found.append((first, s.layer2(first)))
    return [torch.cat(maps) for maps in zip(*found)]


class Heads(nn.Module):
    """A copy of the source's layer3, shared, and heads for the label, the mask, the descriptors.

    The mask's head is a small decoder: each map gives `WIDTH` channels; coarse ones are enlarged
    and added to finer ones (Lin et al., CVPR 2017). BatchNorm's statistics are held.
    """

    def __init__(self, source: nn.Module, n_classes: int = 2):
        super().__init__()
        self.shared = copy.deepcopy(source.layer3)
        set_batchnorm(self.shared, "eval")
        self.label = nn.Linear(256, n_classes)
        self.side = nn.ModuleList([nn.Conv2d(c, WIDTH, 1) for c in (64, 128, 256)])
        self.last = nn.Conv2d(WIDTH, 1, 3, padding=1)
        nn.init.constant_(self.last.bias, -2.2)  # a tenth of the pixels is lesion
        self.descriptors = nn.Linear(256, sum(map(len, DESCRIPTORS.values())))

    def logits(self, task: str, maps: Maps, size: tuple[int, int]) -> torch.Tensor:
        """Those of the label (N, classes), the descriptors (N, 21) or the mask (N, H, W)."""
        maps = [*maps, self.shared(maps[-1])]
        if task != "mask":
            return getattr(self, task)(maps[-1].mean((2, 3)))
        x = self.side[2](maps[2])
        for k in (1, 0):
            x = self.side[k](maps[k]) + F.interpolate(x, size=maps[k].shape[-2:], mode="bilinear")
        return F.interpolate(self.last(F.relu(x)), size=size, mode="bilinear")[:, 0]


def mask_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the pixels, plus 1 - Dice of the whole batch, with probabilities."""
    p, y = logits.sigmoid(), masks.float()
    dice = (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, y) + 1 - dice


def descriptor_loss(logits: torch.Tensor, split: Split, rows: torch.Tensor) -> torch.Tensor:
    """Mean of the cross-entropies of the seven descriptors."""
    parts = logits.split([len(values) for values in DESCRIPTORS.values()], 1)
    targets = [torch.as_tensor(split.descriptors[k])[rows].long() for k in DESCRIPTORS]
    return sum(map(F.cross_entropy, parts, targets)) / len(parts)


def loss_of(task: str, net: Heads, maps: Maps, split: Split, rows: torch.Tensor) -> torch.Tensor:
    with autocast(best_device()):
        logits = net.logits(task, [m[rows] for m in maps], split.images.shape[-2:])
    logits = logits.float()
    if task == "label":
        return F.cross_entropy(logits, split.labels[rows])
    if task == "mask":
        return mask_loss(logits, split.masks[rows])
    return descriptor_loss(logits, split, rows)


# ---- two gradients become one --------------------------------------------------------------------


def without_conflict(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`a`; where it points against `b`, without its part along `b` (Yu et al. 2020)."""
    dot = a @ b
    return a - dot / (b @ b) * b if dot < 0 else a


def joined(how: str | float, s: torch.Tensor, flats: list[torch.Tensor]) -> torch.Tensor:
    """The gradient of the shared layers. `s`: the logarithms of the tasks' variances."""
    if len(flats) == 1:
        return flats[0]
    if how == "PCGrad":
        a, b = flats
        return (without_conflict(a, b) + without_conflict(b, a)) / 2
    weights = (-s).exp().tolist() if how == "uncertainty" else [1 - float(how), float(how)]
    return weights[0] * flats[0] + weights[1] * flats[1]


# ---- training ------------------------------------------------------------------------------------


def batches(rows: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """UPDATES batches of rows: pass after pass over them, each in a new order."""
    rng = torch.Generator().manual_seed(seed)
    passes = -(-UPDATES * BATCH // len(rows))
    order = torch.cat([rows[torch.randperm(len(rows), generator=rng)] for _ in range(passes)])
    return list(order[: UPDATES * BATCH].split(BATCH))


def trained(
    source: nn.Module,
    maps: Maps,
    pool: Split,
    rows: dict[str, torch.Tensor],
    how: str | float,
    seed: int,
) -> tuple[Heads, dict]:
    """A network after UPDATES updates, and what was measured on the way.

    `rows`: task -> the images of `pool` that are labelled for it. The batches of a task depend on
    its rows and the seed alone, so they are the same in all arms. `how`: the second task's weight,
    where the first has the rest of 1, or "uncertainty", or "PCGrad".
    """
    torch.manual_seed(seed)
    net = Heads(source, len(pool.classes)).train()
    shared, s = list(net.shared.parameters()), torch.zeros(len(rows), requires_grad=True)
    heads = [p for name, p in net.named_parameters() if not name.startswith("shared")]
    rates = [RATE, RATE_OF_HEADS, RATE_OF_S]
    groups = [{"params": p, "lr": r} for p, r in zip((shared, heads, [s]), rates)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=UPDATES)
    order = ("label", "mask", "descriptors")
    dealt = [batches(r, 10 * seed + order.index(task)) for task, r in rows.items()]
    seen = {"cosine": [], "loss": []}
    for parts in zip(*dealt):
        optimizer.zero_grad()
        losses = [loss_of(task, net, maps, pool, part) for task, part in zip(rows, parts)]
        flats = []
        for loss in losses:
            loss.backward()
            flats.append(torch.cat([p.grad.flatten() for p in shared]))
            for p in shared:
                p.grad = None
        for p, g in zip(shared, joined(how, s, flats).split([p.numel() for p in shared])):
            p.grad = g.view_as(p).clone()
        seen["loss"].append([loss.item() for loss in losses])
        if how == "uncertainty":
            s.grad = 1 - torch.tensor(seen["loss"][-1]) * (-s.detach()).exp()
        optimizer.step()
        schedule.step()
        seen["cosine"].append(float(F.cosine_similarity(flats[0], flats[-1], dim=0)))
    return net.eval(), seen | {"s": s.tolist()}
