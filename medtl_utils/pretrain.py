"""How the source model "ultrasound" was made: `python -m medtl_utils.pretrain` makes it again.

A ResNet-18 learns to name the six descriptors of simulated lesions, and whether there is a lesion at all. It never sees
a malignancy label, a scanner, a tissue range or a patient of the target task (see medtl_utils/phantom.py).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from .data import data_folder
from .models import GREY, ULTRASOUND_FILE, save_model
from .phantom import DESCRIPTORS, simulate_source
from .training import autocast, best_device

HEADS = {**{name: len(values) for name, values in DESCRIPTORS.items()}, "lesion": 2}
VALIDATION_START, VALIDATION_COUNT = 10_000_000, 2000  # patients with these numbers are never trained on


def generate(start: int, count: int, device: str = "cpu", note: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 (count, 1, 64, 64) and targets int64 (count, 7), with a line of progress every 2,000."""
    parts, began = [], time.time()
    for first in range(start, start + count, 2000):
        images, _masks, targets = simulate_source(first, min(2000, start + count - first), device=device)
        parts.append((images, targets))
        done = first + len(images) - start
        print(f"{note}{done:,} of {count:,} images, {done / (time.time() - began):.0f} a second", flush=True)
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def augment(images: torch.Tensor) -> torch.Tensor:
    """Flip, lower the resolution to that of a coarse archive image, shift, change gain and offset; float (N, 1, H, W)."""
    images, size = images.float(), images.shape[-1]
    if torch.rand(()) < 0.5:
        images = images.flip(-1)
    coarse = int(torch.randint(size * 3 // 8, size + 1, ()))
    if torch.rand(()) < 0.7 and coarse < size - 4:
        images = F.interpolate(images, size=(coarse, coarse), mode="area")
        images = F.interpolate(images, size=(size, size), mode="bilinear")
    shift = torch.randint(-(size // 10), size // 10 + 1, (2,)).tolist()
    images = torch.roll(images, shift, (2, 3))
    gain, offset = 0.8 + 0.4 * torch.rand(len(images), 1, 1, 1), 50 * (torch.rand(len(images), 1, 1, 1) - 0.5)
    return (images * gain.to(images.device) + offset.to(images.device)).clamp(0, 255)


def descriptor_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropies of the seven heads; descriptors count only where there is a lesion."""
    parts = logits.float().split(list(HEADS.values()), 1)
    lesion = targets[:, -1] == 1
    loss = F.cross_entropy(parts[-1], targets[:, -1])
    for part, target in zip(parts[:-1], targets[:, :-1].T):
        loss = loss + F.cross_entropy(part[lesion], target[lesion])
    return loss


@torch.no_grad()
def accuracies(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Accuracy of each head on held-out simulated patients; descriptors where there is a lesion."""
    model.eval()
    device = next(model.parameters()).device
    with autocast(device):
        logits = torch.cat([model(GREY(batch.to(device))).float().cpu() for batch in images.split(250)])
    lesion = targets[:, -1] == 1
    result = {}
    for (name, _), part, target in zip(HEADS.items(), logits.split(list(HEADS.values()), 1), targets.T):
        right = part.argmax(1) == target
        result[name] = round(float((right if name == "lesion" else right[lesion]).float().mean()), 4)
    return result


def pretrain(n_images: int, passes: int, out: Path, seed: int = 0, batch_size: int = 128, lr: float = 2e-3) -> dict:
    """Train the source model on `n_images` simulated images for `passes` image passes; write weights and metrics to `out`.

    AdamW with a one-cycle learning rate (Smith & Topin 2018). Returns the metrics that are also written.
    """
    device = best_device()
    began = time.time()
    images, targets = generate(0, n_images, device.type, "training: ")
    val_images, val_targets = generate(VALIDATION_START, VALIDATION_COUNT, device.type, "validation: ")
    torch.manual_seed(seed)
    model = torchvision.models.resnet18(num_classes=sum(HEADS.values()))
    model = model.to(device, memory_format=torch.channels_last)
    steps = math.ceil(passes / batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1)
    order, history, trained = torch.empty(0, dtype=torch.long), [], time.time()
    for step in range(1, steps + 1):
        if len(order) < batch_size:
            order = torch.cat([order, torch.randperm(n_images)])
        index, order = order[:batch_size], order[batch_size:]
        model.train()
        with autocast(device):
            batch = GREY(augment(images[index].to(device))).contiguous(memory_format=torch.channels_last)
            logits = model(batch)
        loss = descriptor_loss(logits, targets[index].to(device))
        if not torch.isfinite(loss):
            raise RuntimeError(f"The loss is {loss.item()} at step {step}. Lower --lr and start again.")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == steps:
            left = (time.time() - trained) / step * (steps - step)
            metrics = accuracies(model, val_images, val_targets)
            history.append({"step": step, "loss": round(loss.item(), 3), **metrics})
            print(f"step {step}/{steps}  loss {loss.item():.2f}  {metrics}  {left / 60:.0f} min left", flush=True)
    model.heads = {"sizes": HEADS, "values": {**DESCRIPTORS, "lesion": ("absent", "present")}}
    model.normalisation = GREY
    path = save_model(model, out / ULTRASOUND_FILE, half=True, licence="MIT", source="simulated breast ultrasound")
    result = {
        "command": f"python -m medtl_utils.pretrain --images {n_images} --passes {steps * batch_size} --seed {seed}",
        "images": n_images,
        "passes": steps * batch_size,
        "seed": seed,
        "batch_size": batch_size,
        "lr": lr,
        "minutes": round((time.time() - began) / 60, 1),
        "device": device.type,
        "torch": torch.__version__.split("+")[0],
        "accuracy": history[-1],
        "history": history,
    }
    (out / "results").mkdir(parents=True, exist_ok=True)
    (out / "results" / "pretrain.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path.name} ({path.stat().st_size / 1e6:.1f} MB)")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the source model on simulated ultrasound.")
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--passes", type=int, default=480_000, help="image passes in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, default=None, help="folder for the weights; default: the data folder")
    arguments = parser.parse_args()
    pretrain(arguments.images, arguments.passes, arguments.out or data_folder(), arguments.seed, lr=arguments.lr)


if __name__ == "__main__":
    main()
