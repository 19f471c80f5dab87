"""Fine-tuning and prediction: the loop that notebook 05 builds in sight, made safe to reuse."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn
from tqdm import tqdm

from .augmentation import augment
from .checkpoint import resume, store
from .checks import check_run, one_output_a_class
from .data import Split, Task
from .fingerprint import describe_run

WEIGHT_DECAY = 0.05


def best_device() -> torch.device:
    """A CUDA GPU or Apple's, where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def native_bfloat16() -> bool:
    """Whether this CPU has bfloat16 instructions and nothing in the environment switched them off.

    The instructions are AVX512-BF16 or AMX.
    """
    if os.environ.get("ATEN_CPU_CAPABILITY") or os.environ.get("ONEDNN_MAX_CPU_ISA"):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device):
    """bfloat16 autocast where the machine computes it natively, else a context without effect."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    if device.type == "cpu" and native_bfloat16():
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


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
    augment: Callable[[torch.Tensor], torch.Tensor] | None = augment,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    class_weights: torch.Tensor | None = None,
) -> dict[str, list[float]]:
    """Train `model` in place on task.train, watch task.val, and return the history.

    AdamW (weight decay 0.05, Loshchilov & Hutter 2019) with a one-cycle learning rate (Smith &
    Topin 2018): up over the first 30 %, then down to nearly 0, so that the last epoch is kept.

    `model`: any network with `normalisation`; frozen parts stay frozen. `task`: any object with
    `train` and `val`, which have `images` (uint8 (N, C, H, W), or what the normalisation takes)
    and `labels` (N, ...), and may have `classes` and `patients`. No test set is touched.
    `lr`: the peak rate, or the groups of `param_groups`. `seed`: order and augmentation of the
    images; with the model's state it fixes the run on one machine. `checkpoint`: safetensors
    file, written after every epoch; training goes on from it, bit for bit, if it is there.
    `progress`: one line an epoch. `augment`: images -> images of the same dtype, random by torch's
    global state; None (or augmented=False) for none. `loss`: (outputs float32 (N, n_outputs),
    labels) -> one number; None for cross-entropy, with `class_weights` float (n_classes,) or None.
    Uses a GPU, bfloat16 and channels-last where they are faster. However it ends, by an error or
    an interruption too, the model is on the CPU and in evaluation mode.

    Returns {"train_loss", "val_loss", "val_auc"}, one number an epoch; "val_auc" (macro one
    against the rest) where the model has one output a class. Raises ValueError before training
    for what cannot work and for a checkpoint of another run, FloatingPointError for a loss that
    is not finite.
    """
    used = augment if augmented else None
    run = _Run(model, task, epochs, lr, batch_size, seed, used, loss, class_weights)
    check_run(run)
    return run.train(None if checkpoint is None else Path(checkpoint), progress)


@dataclass
class _Run:
    """One training: what `fine_tune` was given, and its steps."""

    model: nn.Module
    task: Task
    epochs: int
    lr: float | list[dict]
    batch_size: int
    seed: int
    augment: Callable | None
    loss: Callable | None
    class_weights: torch.Tensor | None

    def groups(self) -> list[dict]:
        """The optimiser's groups; copies, because optimiser and schedule write into them."""
        if isinstance(self.lr, list):
            return [{**group, "params": list(group["params"])} for group in self.lr]
        return [{"params": [p for p in self.model.parameters() if p.requires_grad], "lr": self.lr}]

    def train(self, checkpoint: Path | None, progress: bool) -> dict[str, list[float]]:
        """All epochs, from the checkpoint on where there is one."""
        identity = None if checkpoint is None else describe_run(self, WEIGHT_DECAY)
        device, model = best_device(), self.model
        history: dict[str, list[float]] = {"train_loss": []}
        try:
            model.to(device, memory_format=_layout(self.task.train.images))
            optimizer, schedule = self.optimiser()
            if checkpoint is not None and checkpoint.is_file():
                history = resume(checkpoint, model, optimizer, schedule, identity)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                for epoch in range(len(history["train_loss"]), self.epochs):
                    # by epoch, so that a resumed run goes the same way
                    torch.manual_seed(1_000_003 * (self.seed + 1) + epoch)
                    values = {"train_loss": self.epoch(epoch, optimizer, schedule, progress)}
                    for name, value in (values | self.validate()).items():
                        history.setdefault(name, []).append(value)
                    if checkpoint is not None:
                        store(checkpoint, model, optimizer, history, identity)
                    if progress:
                        ends = (f"{k.replace('_', ' ')} {v[-1]:.3f}" for k, v in history.items())
                        print(f"epoch {epoch + 1}/{self.epochs}  " + "  ".join(ends), flush=True)
        finally:
            model.zero_grad()  # gradients would keep as much memory as the weights
            # as a saved and reloaded model: identical logits
            model.to("cpu", memory_format=torch.contiguous_format).eval()
        return history

    def batches(self) -> int:
        """Batches an epoch; a last batch of one image is left out, for BatchNorm cannot use it."""
        n = len(self.task.train.labels)
        return -(-n // self.batch_size) - (n % self.batch_size == 1)

    def optimiser(self):
        """AdamW and its one-cycle schedule."""
        optimizer = torch.optim.AdamW(self.groups(), weight_decay=WEIGHT_DECAY, fused=True)
        peaks, steps = [g["lr"] for g in optimizer.param_groups], self.epochs * self.batches()
        # a cycle of one step would be its end alone, nearly 0: that step takes the peak
        flat = {"div_factor": 1.0, "final_div_factor": 1.0} if steps == 1 else {}
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(
            optimizer, peaks, total_steps=steps, **flat
        )

    def epoch(self, epoch: int, optimizer, schedule, progress: bool) -> float:
        """One pass over the training images; returns the mean loss."""
        self.model.train()
        train, device = self.task.train, next(self.model.parameters()).device
        total = 0.0
        order = torch.randperm(len(train.labels)).split(self.batch_size)[: self.batches()]
        bar = tqdm(
            order,
            f"epoch {epoch + 1}/{self.epochs}",
            leave=False,
            disable=not (progress and sys.stderr.isatty()),
        )
        for index in bar:
            images = self.model.normalisation(self.augmented(train.images[index]).to(device))
            with autocast(device):
                outputs = self.model(images.contiguous(memory_format=_layout(images)))
            loss = self.loss_of(outputs.float(), train.labels[index].to(device))
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"The loss is {loss.item()} at step {schedule.last_epoch + 1} (epoch "
                    f"{epoch + 1}). Try a learning rate ten times lower, and look for NaN in the "
                    "inputs or the weights."
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        return total / sum(map(len, order))

    def augmented(self, images: torch.Tensor) -> torch.Tensor:
        if self.augment is None:
            return images
        changed = self.augment(images)
        if changed.dtype != images.dtype or len(changed) != len(images):
            raise ValueError(
                f"`augment` must return as many images of the same dtype: got {changed.dtype} "
                f"{tuple(changed.shape)} for {images.dtype} {tuple(images.shape)}."
            )
        return changed

    def loss_of(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.loss is None:
            weights = self.class_weights
            return F.cross_entropy(
                outputs, labels, None if weights is None else weights.to(outputs.device)
            )
        if isinstance(self.loss, nn.Module):
            self.loss.to(outputs.device)
        try:
            with warnings.catch_warnings():  # (N, 1) against (N,) would give N x N differences
                warnings.filterwarnings("error", message="Using a target size")
                loss = self.loss(outputs, labels)
        except UserWarning as warning:
            if "target size" not in str(warning):
                raise
            raise ValueError(
                f"`loss` compares outputs {tuple(outputs.shape)} with labels "
                f"{tuple(labels.shape)}. With one output take outputs[:, 0]."
            ) from warning
        if not isinstance(loss, torch.Tensor) or loss.ndim:
            shape = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise ValueError(
                f"`loss` must return one number as a tensor; got {shape}. Take .mean()."
            )
        return loss

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss on the validation images, and their AUC where the outputs are one a class."""
        val, device = self.task.val, next(self.model.parameters()).device
        if self.loss is None:
            probabilities = predict(self.model, val)
            loss = F.nll_loss(probabilities.clamp_min(1e-7).log(), val.labels)
        else:
            outputs = predict(self.model, val, raw=True)
            loss = self.loss_of(outputs.to(device), val.labels.to(device))
            probabilities = outputs.softmax(1) if outputs.ndim > 1 else outputs
        values = {"val_loss": float(loss)}
        if one_output_a_class(probabilities, self.task):
            values["val_auc"] = _auc(probabilities, val)
        return values


def _layout(images: torch.Tensor) -> torch.memory_format:
    return torch.channels_last if images.ndim == 4 else torch.contiguous_format


def _auc(probabilities: torch.Tensor, split: Split) -> float:
    """AUC of the positive class, or the mean over one class against the rest."""
    if probabilities.shape[1] == 2:
        positive = getattr(split, "positive", None)
        positive = 1 if positive is None else positive
        return float(roc_auc_score(split.labels == positive, probabilities[:, positive]))
    present = torch.unique(split.labels)
    return float(
        sum(roc_auc_score(split.labels == c, probabilities[:, c]) for c in present) / len(present)
    )


@torch.no_grad()
def predict(
    model: nn.Module, split: Split, batch_size: int = 128, *, raw: bool = False
) -> torch.Tensor:
    """Class probabilities of every image, torch float32 (N, n_classes), in evaluation mode.

    Full precision; the model's own `normalisation` is applied. `split`: any object with `images`.
    `raw`: the outputs as they are (logits, values of a regression). A head with one output gives
    them always: the softmax of one number is 1. The model's training mode is put back afterwards,
    after an error too.
    """
    parameter = next(model.parameters(), torch.empty(0))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        outputs = torch.cat(
            [
                model(model.normalisation(images.to(parameter.device))).float().cpu()
                for images in split.images.split(batch_size)
            ]
        )
    finally:
        for module, mode in modes.items():
            module.training = mode
    return outputs if raw or outputs.shape[1:].numel() == 1 else outputs.softmax(1)
