"""How the source model "ultrasound" was made: `python -m medtl_utils.pretrain` makes it again.

A ResNet-18 learns to name the six descriptors of simulated lesions, whether there is a lesion at all, and where. It never
sees a malignancy label, a scanner, a tissue range or a patient of the target task (see medtl_utils/phantom.py).

`--task shapes` trains the control on pictures that are no ultrasound: shapes on textures, with the same heads, images,
passes and mask. What it gains on ultrasound is gained by training as such; the rest is due to the simulated physics.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from medtl_utils.data import data_folder
from medtl_utils.models import GREY, ULTRASOUND_FILE, save_model
from medtl_utils.phantom import DESCRIPTORS, simulate_source
from medtl_utils.training import _resume, _store, autocast, best_device

HEADS = {**{name: len(values) for name, values in DESCRIPTORS.items()}, "lesion": 2}
VALIDATION_START, VALIDATION_COUNT = (
    10_000_000,
    2000,
)  # patients with these numbers are never trained on
CHUNK, POOL = (
    2000,
    20,
)  # images made at a time; chunks held in memory, the oldest of which is replaced as training goes on
BATCH, STEPS = 128, 250  # images a step; steps between two lines of progress (and two checkpoints)


class SourceNet(nn.Module):
    """A ResNet-18 with a head for the descriptors and, from layers 2 to 4, one for the lesion's mask on an 8 x 8 grid.

    The mask's head is thrown away after training. As in feature pyramids (Lin et al., CVPR 2017), coarse layers are
    enlarged and added to finer ones.
    """

    def __init__(self):
        super().__init__()
        self.trunk = torchvision.models.resnet18(num_classes=sum(HEADS.values()))
        self.mask = nn.ModuleList([nn.Conv2d(channels, 1, 1) for channels in (128, 256, 512)])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images (N, 3, H, W) -> logits (N, 18) and mask logits (N, 1, H/8, W/8)."""
        t = self.trunk
        second = t.layer2(t.layer1(t.maxpool(t.relu(t.bn1(t.conv1(x))))))
        third = t.layer3(second)
        fourth = t.layer4(third)
        mask = self.mask[2](fourth)
        for head, features in ((self.mask[1], third), (self.mask[0], second)):
            mask = head(features) + F.interpolate(mask, size=features.shape[-2:], mode="nearest")
        return t.fc(t.avgpool(fourth).flatten(1)), mask


def simulate_shapes(start: int, count: int, size: int = 64, seed: int = 0, device: str = "cpu"):
    """The control source: shapes on textures. Returns images, masks and targets as `simulate_source` does.

    Its seven questions have as many answers as the ultrasound's: shape (disc, square, star, ring), taller than wide or not,
    shape against ground (darker, equal in mean, brighter), texture of the ground (grain, stripes, checks), dots, outline,
    and whether there is a shape. Contrast, scale, place, rotation and texture vary.
    """
    rng = np.random.default_rng([3, seed, start])
    targets = np.stack([rng.integers(0, k, count) for k in HEADS.values()], 1)
    targets[:, -1] = rng.random(count) > 0.15
    shape, tall, tone, texture, dots, outline, there = (
        torch.tensor(t).view(-1, 1, 1) for t in targets.T
    )
    one = lambda low, high: torch.tensor(rng.uniform(low, high, (count, 1, 1)), dtype=torch.float32)
    at = (torch.arange(size) + 0.5) / size
    y, x = at.view(1, -1, 1), at.view(1, 1, -1)
    turn, pitch = one(0, math.pi), one(4, 20)
    along, across = (
        (x * turn.cos() + y * turn.sin()) * pitch,
        (y * turn.cos() - x * turn.sin()) * pitch,
    )
    noise = torch.tensor(rng.standard_normal((count, 1, size, size), dtype=np.float32))
    grain = torch.stack(
        [F.avg_pool2d(noise, k, 1, k // 2)[:, 0, :size, :size] * k for k in (1, 3, 5)]
    )
    grain = grain[torch.tensor(rng.integers(0, 3, count)), torch.arange(count)]
    stripes, checks = (
        torch.sin(2 * math.pi * along),
        torch.sign(torch.sin(math.pi * along) * torch.sin(math.pi * across)),
    )
    ground = torch.where(texture == 0, grain, torch.where(texture == 1, stripes, checks))
    ratio = torch.where(tall == 1, one(1.15, 1.6), one(0.5, 0.82)).sqrt()
    radius, tilt = one(0.09, 0.3), one(-0.2, 0.2)
    dx, dy = x - one(0.3, 0.7), y - one(0.3, 0.7)
    u, v = (
        (dx * tilt.cos() + dy * tilt.sin()) / radius * ratio,
        (dy * tilt.cos() - dx * tilt.sin()) / radius / ratio,
    )
    r, angle = torch.hypot(u, v), torch.atan2(v, u)
    star = 0.75 + 0.3 * torch.cos(angle * one(5, 9).round() + one(0, 6))
    edge = torch.where(
        shape == 1, torch.maximum(u.abs(), v.abs()) * 1.15, torch.where(shape == 2, r / star, r)
    )
    inside = (
        torch.sigmoid((1 - edge) / one(0.03, 0.3))
        * torch.where(shape == 3, torch.sigmoid((edge - 0.55) / 0.08), 1.0)
    ) * there
    level, step = one(60, 150), one(25, 60) * (tone - 1)
    picture = (
        level + one(8, 30) * ground * (1 - 0.7 * inside) + inside * (step + one(4, 20) * grain)
    )
    picture = picture + outline * there * one(30, 70) * torch.exp(-(((edge - 1.05) / 0.07) ** 2))
    spots = torch.tensor(rng.random((count, size, size)) < 0.04, dtype=torch.float32)
    picture = picture + dots * there * one(60, 110) * spots * (edge < 0.9)
    picture = (
        picture
        + one(-60, 60) * (y - 0.5)
        + one(2, 12) * torch.tensor(rng.standard_normal(picture.shape, dtype=np.float32))
    )
    mask = (edge < 1) & (there == 1)
    return picture.round().clamp(0, 255).to(torch.uint8)[:, None], mask, torch.tensor(targets)


TASKS: dict[str, tuple[Callable, str, str]] = {  # name -> (simulator, file, what it is)
    "ultrasound": (simulate_source, ULTRASOUND_FILE, "simulated breast ultrasound"),
    "shapes": (
        simulate_shapes,
        "shapes_resnet18.safetensors",
        "shapes on textures, no ultrasound: the control",
    ),
}


def generate(
    simulate: Callable, start: int, count: int, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images start .. start + count - 1 with their masks as one uint8 tensor (count, 2, 64, 64), and the targets."""
    parts = [
        simulate(first, min(CHUNK, start + count - first), device=device)
        for first in range(start, start + count, CHUNK)
    ]
    images, masks, targets = (torch.cat(p) for p in zip(*parts))
    return torch.cat([images, masks[:, None].to(torch.uint8) * 255], 1), targets


def augment(pictures: torch.Tensor) -> torch.Tensor:
    """Mirror, crop, lower the resolution to that of a coarse archive image, change gain and offset.

    `pictures`: uint8 (N, 2, H, W), image and mask, which move together, in four groups with a draw each. Returns float,
    values 0..255. Uses torch's global random state.
    """
    done, size = [], pictures.shape[-1]
    for part in pictures.float().chunk(4):
        if torch.rand(()) < 0.5:
            part = part.flip(-1)
        height, width = (int(torch.randint(size * 3 // 4, size + 1, ())) for _ in range(2))
        top, left = (int(torch.randint(0, size - extent + 1, ())) for extent in (height, width))
        part = part[..., top : top + height, left : left + width]
        coarse = (
            int(torch.randint(size * 3 // 8, size * 5 // 8, ())) if torch.rand(()) < 0.6 else size
        )
        if coarse < size:
            part = F.interpolate(part, size=(coarse, coarse), mode="bilinear", antialias=True)
        done.append(F.interpolate(part, size=(size, size), mode="bilinear"))
    images, masks = torch.cat(done).chunk(2, 1)
    gain, offset = (
        0.8 + 0.4 * torch.rand(len(images), 1, 1, 1),
        50 * (torch.rand(len(images), 1, 1, 1) - 0.5),
    )
    return torch.cat(
        [(images * gain.to(images.device) + offset.to(images.device)).clamp(0, 255), masks], 1
    )


def descriptor_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropies of the seven heads; descriptors count only where there is a lesion."""
    parts = logits.float().split(list(HEADS.values()), 1)
    lesion = targets[:, -1] == 1
    loss = F.cross_entropy(parts[-1], targets[:, -1])
    for part, target in zip(parts[:-1], targets[:, :-1].T):
        loss = loss + F.cross_entropy(part[lesion], target[lesion])
    return loss


def mask_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy between mask logits (N, 1, h, w) and the share of each cell that `masks` (0..255) cover."""
    return F.binary_cross_entropy_with_logits(
        logits.float(), F.adaptive_avg_pool2d(masks / 255, logits.shape[-2:])
    )


@torch.no_grad()
def accuracies(model: SourceNet, pictures: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Accuracy of each head on held-out pictures; descriptors where there is a lesion."""
    model.eval()
    device = next(model.parameters()).device
    with autocast(device):
        logits = torch.cat(
            [model(GREY(batch[:, :1].to(device)))[0].float().cpu() for batch in pictures.split(250)]
        )
    lesion = targets[:, -1] == 1
    result = {}
    for (name, _), part, target in zip(
        HEADS.items(), logits.split(list(HEADS.values()), 1), targets.T
    ):
        right = part.argmax(1) == target
        result[name] = round(
            float((right if name == "lesion" else right[lesion]).float().mean()), 4
        )
    return result


def card(result: dict, digest: str) -> str:
    """The facts of a model card as Markdown. `result`: what pretrain.json holds; `digest`: SHA-256 of the weights."""
    made = f"`{result['command']}` ({result['minutes']:.0f} minutes, {result['device']}, PyTorch {result['torch']})"
    rows = {
        "Trained on": f"{result['images']:,} images, {result['passes']:,} image passes, no real image",
        "Made by": made,
    }
    rows |= {"SHA-256": f"`{digest}`", "Licence": "MIT"} | {
        f"accuracy, {k}": f"{v:.3f}" for k, v in result["accuracy"].items()
    }
    return "\n".join(
        [
            f"| {TASKS[result['task']][1]} | |",
            "|---|---|",
            *(f"| {k} | {v} |" for k, v in rows.items()),
            "",
        ]
    )


def pretrain(
    n_images: int,
    passes: int,
    out: Path,
    task: str = "ultrasound",
    seed: int = 0,
    lr: float = 2e-3,
    mask: float = 1.0,
) -> dict:
    """Train a source model on `n_images` different pictures for `passes` image passes; write weights, card, metrics to `out`.

    The pictures are a stream: POOL chunks are in memory, and the oldest gives way to a new one as training goes on. All
    randomness is a function of seed and step, and a checkpoint (`out`/cache/) is written every STEPS steps: after a kill the
    same call goes on where it was and ends in the same bits. AdamW, one-cycle learning rate (Smith & Topin 2018).
    `mask`: weight of the mask's loss. Returns the metrics that are also written. Raises RuntimeError if the loss diverges.
    """
    device, (simulate, file, about) = best_device(), TASKS[task]
    rounds, n_chunks = math.ceil(passes / (BATCH * STEPS)), math.ceil(n_images / CHUNK)
    val_pictures, val_targets = generate(simulate, VALIDATION_START, VALIDATION_COUNT, device.type)
    torch.manual_seed(seed)
    model = SourceNet().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=rounds * STEPS)
    run = {"epochs": rounds, "task": task, "images": n_images, "seed": seed, "lr": lr, "mask": mask}
    history: dict[str, list] = {"train_loss": [], "accuracy": [], "minutes": []}
    checkpoint = out / "cache" / f"pretrain_{task}_{seed}.safetensors"
    if checkpoint.is_file():
        history = _resume(checkpoint, model, optimizer, schedule, run)
        for (
            weight,
            state,
        ) in (
            optimizer.state.items()
        ):  # the fused kernel wants them laid out in memory as the weights are
            state |= {
                k: torch.empty_like(weight).copy_(v)
                for k, v in state.items()
                if v.shape == weight.shape
            }
        print(
            f"going on after round {len(history['train_loss'])} of {rounds}, from {checkpoint.name}",
            flush=True,
        )
    chunks: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for done in range(len(history["train_loss"]), rounds):
        began = time.time()
        newest = min(
            n_chunks, POOL + math.ceil(max(n_chunks - POOL, 0) * done / max(rounds - 1, 1))
        )
        wanted = range(max(0, newest - POOL), newest)
        for number in [k for k in wanted if k not in chunks]:
            chunks[number] = generate(
                simulate, number * CHUNK, min(CHUNK, n_images - number * CHUNK), device.type
            )
        chunks = {k: chunks[k] for k in wanted}
        pictures, targets = (torch.cat(part) for part in zip(*chunks.values()))
        torch.manual_seed(
            1_000_003 * (seed + 1) + done
        )  # by round, so that a resumed run goes the same way
        model.train()
        total = 0.0
        for step in range(STEPS):
            index = torch.randint(len(pictures), (BATCH,))
            batch = augment(pictures[index].to(device))
            with autocast(device):
                logits, mask_logits = model(
                    GREY(batch[:, :1]).contiguous(memory_format=torch.channels_last)
                )
            loss = descriptor_loss(logits, targets[index].to(device)) + mask * mask_loss(
                mask_logits, batch[:, 1:]
            )
            if not torch.isfinite(loss):
                raise RuntimeError(
                    f"The loss is {loss.item()} at step {done * STEPS + step + 1}. Lower --lr and start again."
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        history["train_loss"].append(round(total / STEPS, 4))
        history["accuracy"].append(accuracies(model, val_pictures, val_targets))
        history["minutes"].append((time.time() - began) / 60)
        _store(checkpoint, model, optimizer, history, run)
        left = float(np.mean(history["minutes"])) * (rounds - done - 1)
        print(
            f"round {done + 1}/{rounds}  loss {history['train_loss'][-1]:.3f}  {history['accuracy'][-1]}  {left:.0f} min left",
            flush=True,
        )
    trunk = model.trunk
    trunk.heads = (
        {"sizes": HEADS, "values": {**DESCRIPTORS, "lesion": ("absent", "present")}}
        if task == "ultrasound"
        else {}
    )
    trunk.normalisation = GREY
    path = save_model(trunk, out / file, half=True, licence="MIT", source=about)
    result = {
        "command": f"python -m medtl_utils.pretrain --task {task} --images {n_images} --passes {rounds * STEPS * BATCH} --seed {seed}",
        **run, "passes": rounds * STEPS * BATCH, "batch_size": BATCH, "minutes": round(sum(history["minutes"]), 1),
        "device": device.type, "torch": torch.__version__.split("+")[0], "accuracy": history["accuracy"][-1], "history": history,
    }  # fmt: skip
    (out / "results").mkdir(parents=True, exist_ok=True)
    name = "pretrain" if task == "ultrasound" else f"pretrain_{task}"
    (out / "results" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "results" / f"{name}.md").write_text(
        card(result, hashlib.sha256(path.read_bytes()).hexdigest())
    )
    os.remove(checkpoint)
    print(f"wrote {path.name} ({path.stat().st_size / 1e6:.1f} MB)")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train a source model on simulated pictures; goes on after a kill."
    )
    parser.add_argument("--task", choices=TASKS, default="ultrasound")
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--passes", type=int, default=1_280_000, help="image passes in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument(
        "--out", type=Path, default=None, help="folder for the weights; default: the data folder"
    )
    a = parser.parse_args()
    pretrain(a.images, a.passes, a.out or data_folder(), a.task, a.seed, a.lr)


if __name__ == "__main__":
    main()
