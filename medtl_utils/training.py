"""Fine-tuning and prediction: the loop that notebook 05 builds in sight, with what makes it safe to reuse."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from torch import nn
from torchvision.transforms import v2
from tqdm import tqdm

from .data import DataError, Split, Task, check_disjoint


def best_device() -> torch.device:
    """A CUDA GPU or Apple's, where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def native_bfloat16() -> bool:
    """Whether this CPU has bfloat16 instructions (AVX512-BF16 or AMX) and nothing in the environment switched them off."""
    if os.environ.get("ATEN_CPU_CAPABILITY") or os.environ.get("ONEDNN_MAX_CPU_ISA"):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device):
    """bfloat16 autocast where the machine computes it natively, else a context that changes nothing."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    if device.type == "cpu" and native_bfloat16():
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


# Left and right may be swapped; top and bottom may not: shadows fall away from the probe. Values stay in 0..255.
AUGMENT = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.RandomAffine(
            degrees=5,
            translate=(0.08, 0.08),
            scale=(0.9, 1.1),
            interpolation=v2.InterpolationMode.BILINEAR,
        ),
        v2.ColorJitter(brightness=0.15, contrast=0.15),
    ]
)


def augment(images: torch.Tensor, group: int = 8) -> torch.Tensor:
    """AUGMENT on uint8 (N, C, H, W), a new random draw for every `group` images; returns uint8 of the same shape."""
    return torch.cat([AUGMENT(part) for part in images.split(group)])


def _check(model: nn.Module, task: Task, batch_size: int, epochs: int) -> None:
    """Everything that can be known to be wrong before the first step; each message names the one thing to do."""
    check_disjoint(task.train, task.val)
    if not hasattr(model, "normalisation"):
        raise ValueError(
            "The model has no `normalisation`: load it with source_model, or set it as in notebook 05."
        )
    n_out, n_classes = model.fc.out_features, len(task.classes)
    if n_out != n_classes:
        raise ValueError(
            f"The head has {n_out} outputs, the task {n_classes} classes. Call replace_head(model, {n_classes}) first."
        )
    if epochs < 1 or batch_size < 2:
        raise ValueError(
            f"epochs must be at least 1 and batch_size at least 2; got {epochs} and {batch_size}."
        )
    if len(task.train) < batch_size:
        raise ValueError(
            f"{len(task.train)} training images are fewer than one batch of {batch_size}. Lower batch_size or label more."
        )
    for split in (task.train, task.val):
        if len(torch.unique(split.labels)) < 2:
            raise ValueError(
                f"The {split.name} set holds one class only; a classifier needs two. Label more images or use another seed."
            )
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            "Every parameter is frozen, so nothing can learn. Call freeze(model, through=...) again."
        )


def fine_tune(
    model: nn.Module,
    task: Task,
    epochs: int = 10,
    lr: float | list[dict] = 1e-3,
    batch_size: int = 32,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    *,
    augmented: bool = True,
    class_weights: torch.Tensor | None = None,
) -> dict[str, list[float]]:
    """Train `model` in place on task.train, watch task.val, and return the history. The test set is not touched.

    AdamW (weight decay 0.05, Loshchilov & Hutter 2019) with a one-cycle learning rate (Smith & Topin 2018): up over the
    first 30 %, down to nearly 0, so that the last epoch is the one to keep. Cross-entropy loss.

    `model`: with `normalisation` and a head `fc` of len(task.classes) outputs; frozen parts stay frozen.
    `lr`: the peak rate, or the groups of `param_groups`. `seed`: order and augmentation of the images; together with the
    model's state it fixes the run on one machine. `class_weights`: float (n_classes,), or None.
    `checkpoint`: safetensors file, written after every epoch; if it is there, training goes on from it, bit for bit.
    `progress`: one line an epoch. Uses a GPU, bfloat16 and channels-last where they are faster; the model ends on the CPU,
    in evaluation mode.

    Returns {"train_loss", "val_loss", "val_auc"}, one number an epoch (val_auc: macro one-vs-rest for > 2 classes).
    Raises ValueError before training for input that cannot work, FloatingPointError if the loss is not finite.
    """
    _check(model, task, batch_size, epochs)
    device = best_device()
    model.to(device, memory_format=torch.channels_last)
    groups = (
        lr
        if isinstance(lr, list)
        else [{"params": [p for p in model.parameters() if p.requires_grad], "lr": lr}]
    )
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    n = len(task.train)
    batches_per_epoch = -(-n // batch_size) - (
        n % batch_size == 1
    )  # BatchNorm cannot normalise a batch of one image
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [g["lr"] for g in optimizer.param_groups], total_steps=epochs * batches_per_epoch
    )
    weights = None if class_weights is None else class_weights.to(device)
    history: dict[str, list[float]] = {"train_loss": [], "val_loss": [], "val_auc": []}
    run = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "n": n}
    if checkpoint is not None and Path(checkpoint).is_file():
        history = _resume(Path(checkpoint), model, optimizer, schedule, run)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for epoch in range(len(history["train_loss"]), epochs):
            torch.manual_seed(
                1_000_003 * (seed + 1) + epoch
            )  # by epoch, so that a resumed run goes the same way
            model.train()
            total, order = 0.0, torch.randperm(n).split(batch_size)[:batches_per_epoch]
            for index in tqdm(
                order,
                f"epoch {epoch + 1}/{epochs}",
                leave=False,
                disable=not (progress and sys.stderr.isatty()),
            ):
                images = task.train.images[index]
                images = model.normalisation((augment(images) if augmented else images).to(device))
                with autocast(device):
                    logits = model(images.contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(logits.float(), task.train.labels[index].to(device), weights)
                if not torch.isfinite(loss):
                    step = schedule.last_epoch + 1
                    raise FloatingPointError(
                        f"The loss is {loss.item()} at step {step} (epoch {epoch + 1}). Try a learning rate ten times lower, and look "
                        "for NaN in the inputs or the weights."
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(index)
            probabilities = predict(model, task.val)
            history["train_loss"].append(total / sum(map(len, order)))
            history["val_loss"].append(
                float(F.nll_loss(probabilities.clamp_min(1e-7).log(), task.val.labels))
            )
            history["val_auc"].append(_auc(probabilities, task.val))
            if checkpoint is not None:
                _store(Path(checkpoint), model, optimizer, history, run)
            if progress:
                print(
                    f"epoch {epoch + 1}/{epochs}  "
                    + "  ".join(f"{k.replace('_', ' ')} {v[-1]:.3f}" for k, v in history.items()),
                    flush=True,
                )
    optimizer.zero_grad()  # gradients would keep as much memory as the weights
    model.to(
        "cpu", memory_format=torch.contiguous_format
    ).eval()  # as a saved and reloaded model: identical logits
    return history


def _auc(probabilities: torch.Tensor, split: Split) -> float:
    if len(split.classes) == 2:
        positive = 1 if split.positive is None else split.positive
        return float(roc_auc_score(split.labels == positive, probabilities[:, positive]))
    present = torch.unique(split.labels)
    return float(
        sum(roc_auc_score(split.labels == c, probabilities[:, c]) for c in present) / len(present)
    )


def _store(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, history: dict, run: dict
) -> None:
    """Model, optimiser state and history in one safetensors file, which replaces the older one only when it is whole."""
    tensors = {f"model/{k}": v.contiguous() for k, v in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer/{number}/{k}": v.contiguous() for k, v in state.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, {"history": json.dumps(history), "run": json.dumps(run)})
    os.replace(part, path)


def _resume(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, schedule, run: dict
) -> dict:
    """Put model, optimiser and schedule back to where `_store` left them; returns the history so far."""
    try:
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata() or {}, {k: file.get_tensor(k) for k in file.keys()}
        history, stored = json.loads(metadata["history"]), json.loads(metadata["run"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(
            f"The checkpoint {path} cannot be read ({error}). Move it away to start afresh."
        ) from error
    if stored != run:
        raise ValueError(
            f"The checkpoint {path} belongs to another run ({stored}, this one is {run}). Name another file."
        )
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
    state: dict[int, dict] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, number, name = key.split("/")
            state.setdefault(int(number), {})[name] = tensor
    done = len(history["train_loss"])
    for _ in range(done * (schedule.total_steps // run["epochs"])):
        optimizer._opt_called = True  # the steps were taken in the earlier run
        schedule.step()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return history


@torch.no_grad()
def predict(model: nn.Module, split: Split, batch_size: int = 128) -> torch.Tensor:
    """Class probabilities of every image, torch float32 (N, n_classes), in evaluation mode and full precision.

    The model's own `normalisation` is applied. The model's training mode is put back afterwards.
    """
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    logits = [
        model(model.normalisation(images.to(device))).float().cpu()
        for images in split.images.split(batch_size)
    ]
    model.train(was_training)
    return torch.cat(logits).softmax(1)
