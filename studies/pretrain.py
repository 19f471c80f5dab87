"""How the source model "ultrasound" was made: `python -m studies.pretrain` makes it again.

A ResNet-18 learns to name the seven descriptors of simulated lesions, whether there is a lesion at
all, and where. It never sees a malignancy label, a scanner, a tissue range or a patient of the
target task (see medtl_utils/phantom.py).

`--task shapes` trains the control on pictures that are no ultrasound (studies/shapes.py), with
the same heads, images, passes and mask. `--seed 1` makes another training of the same source, on
other pictures, with its own files.
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

from medtl_utils.checkpoint import resume, store
from medtl_utils.fingerprint import describe
from medtl_utils.models import GREY, ULTRASOUND_FILE, save_model
from medtl_utils.paths import data_folder
from medtl_utils.phantom import DESCRIPTORS, simulate_source
from medtl_utils.training import autocast, best_device
from studies.shapes import simulate_shapes
from studies.source_net import HEADS, SourceNet, accuracies, descriptor_loss, mask_loss

# patients with these numbers are never trained on
VALIDATION_START, VALIDATION_COUNT = 10_000_000, 2000
APART = 1_000_000  # numbers between the pictures of two seeds
CHUNK = 2000  # images made at a time
POOL = 20  # chunks held in memory; the oldest is replaced as training goes on
BATCH = 128  # images a step
STEPS = 250  # steps between two lines of progress (and two checkpoints)

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
    """Images start .. start + count - 1 with their masks, uint8 (count, 2, 64, 64), and targets."""
    parts = [
        simulate(first, min(CHUNK, start + count - first), device=device)
        for first in range(start, start + count, CHUNK)
    ]
    images, masks, targets = (torch.cat(part) for part in zip(*parts))
    return torch.cat([images, masks[:, None].to(torch.uint8) * 255], 1), targets


def augment(pictures: torch.Tensor) -> torch.Tensor:
    """Mirror, crop, lower the resolution to that of a coarse archive image, change gain and offset.

    `pictures`: uint8 (N, 2, H, W), image and mask, which move together, in four groups with a draw
    each. Returns float, values 0..255. Uses torch's global random state.
    """
    done, size = [], pictures.shape[-1]
    for part in pictures.float().chunk(4):
        if torch.rand(()) < 0.5:
            part = part.flip(-1)
        height, width = (int(torch.randint(size * 3 // 4, size + 1, ())) for _ in range(2))
        top, left = (int(torch.randint(0, size - extent + 1, ())) for extent in (height, width))
        part = part[..., top : top + height, left : left + width]
        if torch.rand(()) < 0.6:
            coarse = int(torch.randint(size * 3 // 8, size * 5 // 8, ()))
            part = F.interpolate(part, size=(coarse, coarse), mode="bilinear", antialias=True)
        done.append(F.interpolate(part, size=(size, size), mode="bilinear"))
    images, masks = torch.cat(done).chunk(2, 1)
    gain = 0.8 + 0.4 * torch.rand(len(images), 1, 1, 1)
    offset = 50 * (torch.rand(len(images), 1, 1, 1) - 0.5)
    images = (images * gain.to(images.device) + offset.to(images.device)).clamp(0, 255)
    return torch.cat([images, masks], 1)


def file_name(name: str, seed: int) -> str:
    """The name of a training's file: seed 0 has the plain name, others "_seed1" before the dot."""
    stem, _, ending = name.rpartition(".")
    return name if seed == 0 else f"{stem}_seed{seed}.{ending}"


def card(result: dict, digest: str) -> str:
    """The facts of a model card as Markdown.

    `result`: what pretrain.json holds; `digest`: SHA-256 of the weights.
    """
    how = f"{result['minutes']:.0f} minutes, {result['device']}, PyTorch {result['torch']}"
    seen = f"{result['images']:,} images, {result['passes']:,} image passes"
    rows = {
        "Trained on": f"{seen}, no real image",
        "Made by": f"`{result['command']}` ({how})",
        "SHA-256": f"`{digest}`",
        "Licence": "MIT",
    }
    rows |= {f"accuracy, {head}": f"{value:.3f}" for head, value in result["accuracy"].items()}
    title = file_name(TASKS[result["task"]][1], result["seed"])
    lines = [f"| {title} | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())]
    return "\n".join([*lines, ""])


# ---- training -----------------------------------------------------------------------------------


def pretrain(
    n_images: int,
    passes: int,
    out: Path,
    task: str = "ultrasound",
    seed: int = 0,
    lr: float = 2e-3,
    mask: float = 1.0,
) -> dict:
    """Train a source model on `n_images` different pictures for `passes` image passes.

    The pictures are a stream: POOL chunks are in memory, and the oldest gives way to a new one as
    training goes on. All randomness is a function of seed and step, and a checkpoint (`out`/cache/)
    is written every STEPS steps: after a kill the same call goes on where it was and ends in the
    same bits. AdamW, one-cycle learning rate (Smith & Topin 2018). `mask`: weight of the mask's
    loss. Writes weights, card and metrics to `out`, and returns the metrics. Raises RuntimeError if
    the loss diverges.
    """
    device, simulate = best_device(), TASKS[task][0]
    rounds = math.ceil(passes / (BATCH * STEPS))
    validation = generate(simulate, VALIDATION_START, VALIDATION_COUNT, device.type)
    torch.manual_seed(seed)
    model = SourceNet().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=rounds * STEPS)
    run = {"epochs": rounds, "task": task, "images": n_images, "seed": seed, "lr": lr, "mask": mask}
    made_of = {"steps": STEPS, "batch_size": BATCH, "pictures": describe(simulate)}
    history: dict[str, list] = {"train_loss": [], "accuracy": [], "minutes": []}
    checkpoint = out / "cache" / f"pretrain_{task}_{seed}.safetensors"
    if checkpoint.is_file():
        history = resume(checkpoint, model, optimizer, schedule, run | made_of)
        done = len(history["train_loss"])
        print(f"going on after round {done} of {rounds}, from {checkpoint.name}", flush=True)
    chunks: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for done in range(len(history["train_loss"]), rounds):
        began = time.time()
        chunks = _pool(chunks, simulate, n_images, done / max(rounds - 1, 1), seed, device)
        torch.manual_seed(1_000_003 * (seed + 1) + done)  # by round: so a resumed run is the same
        loss = _train_round(model, optimizer, schedule, chunks, mask)
        history["train_loss"].append(round(loss, 4))
        history["accuracy"].append(accuracies(model, *validation))
        history["minutes"].append((time.time() - began) / 60)
        store(checkpoint, model, optimizer, history, run | made_of)
        _print_progress(history, rounds)
    result = _write(out, model, history, run)
    os.remove(checkpoint)
    return result


def _pool(
    chunks: dict[int, tuple[torch.Tensor, torch.Tensor]],
    simulate: Callable,
    n_images: int,
    progress: float,
    seed: int,
    device: torch.device,
) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """The chunks for a round; those that are not in `chunks` are made.

    `progress`: 0 in the first round, which has the first POOL chunks, 1 in the last one, which has
    the last ones. No picture of one seed is among those of another.
    """
    n_chunks = math.ceil(n_images / CHUNK)
    newest = POOL + math.ceil(max(n_chunks - POOL, 0) * progress)
    newest = min(n_chunks, newest)
    pool = {}
    for number in range(max(0, newest - POOL), newest):
        start = number * CHUNK
        pool[number] = chunks.get(number) or generate(
            simulate, seed * APART + start, min(CHUNK, n_images - start), device.type
        )
    return pool


def _train_round(
    model: SourceNet,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    chunks: dict[int, tuple[torch.Tensor, torch.Tensor]],
    mask: float,
) -> float:
    """STEPS steps on random batches of the pool; returns the mean loss."""
    device = next(model.parameters()).device
    pictures, targets = (torch.cat(part) for part in zip(*chunks.values()))
    model.train()
    total = 0.0
    for _ in range(STEPS):
        index = torch.randint(len(pictures), (BATCH,))
        batch = augment(pictures[index].to(device))
        with autocast(device):
            images = GREY(batch[:, :1]).contiguous(memory_format=torch.channels_last)
            logits, mask_logits = model(images)
        loss = descriptor_loss(logits, targets[index].to(device))
        loss = loss + mask * mask_loss(mask_logits, batch[:, 1:])
        if not torch.isfinite(loss):
            step = schedule.last_epoch + 1
            raise RuntimeError(
                f"The loss is {loss.item()} at step {step}. Lower --lr and start again."
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
    return total / STEPS


def _print_progress(history: dict[str, list], rounds: int) -> None:
    done = len(history["train_loss"])
    left = float(np.mean(history["minutes"])) * (rounds - done)
    loss, accuracy = history["train_loss"][-1], history["accuracy"][-1]
    print(f"round {done}/{rounds}  loss {loss:.3f}  {accuracy}  {left:.0f} min left", flush=True)


def _write(out: Path, model: SourceNet, history: dict[str, list], run: dict) -> dict:
    """Write weights, metrics and card of a finished training to `out`; returns the metrics."""
    task, seed = run["task"], run["seed"]
    _, file, about = TASKS[task]
    trunk = model.trunk
    values = {**DESCRIPTORS, "lesion": ("absent", "present")}
    trunk.heads = {"sizes": HEADS, "values": values} if task == "ultrasound" else {}
    trunk.normalisation = GREY
    weights = out / file_name(file, seed)
    path = save_model(trunk, weights, half=True, licence="MIT", source=about)
    passes = run["epochs"] * STEPS * BATCH
    arguments = f"--task {task} --images {run['images']} --passes {passes} --seed {seed}"
    result = {
        "command": f"python -m studies.pretrain {arguments}",
        **run,
        "passes": passes,
        "batch_size": BATCH,
        "minutes": round(sum(history["minutes"]), 1),
        "device": next(model.parameters()).device.type,
        "torch": torch.__version__.split("+")[0],
        "accuracy": history["accuracy"][-1],
        "history": history,
    }
    results = out / "results"
    results.mkdir(parents=True, exist_ok=True)
    name = "pretrain" if task == "ultrasound" else f"pretrain_{task}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (results / file_name(f"{name}.json", seed)).write_text(json.dumps(result, indent=1) + "\n")
    (results / file_name(f"{name}.md", seed)).write_text(card(result, digest))
    print(f"wrote {path.name} ({path.stat().st_size / 1e6:.1f} MB)")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train a source model on simulated pictures; goes on after a kill."
    )
    parser.add_argument("--task", choices=TASKS, default="ultrasound")
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--passes", type=int, default=640_000, help="image passes in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument(
        "--out",
        type=Path,
        default=data_folder(),
        help="folder for the weights; default: the data folder",
    )
    a = parser.parse_args()
    pretrain(a.images, a.passes, a.out, a.task, a.seed, a.lr)


if __name__ == "__main__":
    main()
