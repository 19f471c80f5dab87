"""What makes a network small: structured pruning, recovery, a teacher, ONNX, static int8.

Chapter 10 builds each step in sight; the studies of that chapter use these.
"""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from medtl_utils import freeze
from medtl_utils.training import autocast, best_device

TEMPERATURE, SHARE = 2.0, 0.5  # of the teacher's answers; of the teacher in the loss
ROUND_TO = 16  # channels are kept in groups of 16: the processor's registers hold so many


def re_estimated(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """BatchNorm's statistics become those of `images`, in place; no label is used."""
    freeze(model, through=None, batchnorm="train").train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for part in images.split(100):
            model(model.normalisation(part))
    return model.eval()


def pruned(model: nn.Module, share: float, size: int, images=None, round_to=ROUND_TO) -> nn.Module:
    """A copy of a ResNet without `share` of the channels of each layer, the smallest ones.

    Whole groups of coupled channels go, by the norm of their weights (Fang et al., DepGraph, CVPR
    2023). The head keeps its outputs. `images`: for new BatchNorm statistics; None: the old ones.
    """
    import torch_pruning as tp

    small = freeze(copy.deepcopy(model), through=None, batchnorm="train").eval()
    example = next(small.parameters()).new_zeros(1, small.conv1.in_channels, size, size)
    tp.pruner.BasePruner(
        small,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=[small.fc],
        round_to=round_to,
    ).step()
    return small.eval() if images is None else re_estimated(small, images)


def batches(n: int, updates: int, size: int, seed: int) -> list[torch.Tensor]:
    """Rows of `updates` batches: pass after pass over n images, each in a new order."""
    rng = torch.Generator().manual_seed(seed)
    passes = -(-updates * size // n)
    order = torch.cat([torch.randperm(n, generator=rng) for _ in range(passes)])
    return list(order[: updates * size].split(size))


def distillation_loss(outputs, labels, taught) -> torch.Tensor:
    """Cross-entropy with the labels and with a teacher's softened answers (Hinton et al. 2015).

    `outputs`, `taught`: logits (N, C). `taught` None: labels alone. `labels` (N,), -1 where nobody
    knows: there the teacher speaks alone.
    """
    known = labels >= 0
    hard = F.cross_entropy(outputs, labels.clamp_min(0), reduction="none")
    if taught is None:
        return hard.mean()
    log_p = F.log_softmax(outputs / TEMPERATURE, 1)
    soft = -(TEMPERATURE**2) * (F.softmax(taught / TEMPERATURE, 1) * log_p).sum(1)
    return torch.where(known, (1 - SHARE) * hard + SHARE * soft, soft).mean()


def trained(
    model, images, labels, updates, seed, taught=None, rate=1e-3, size=32, batchnorm="eval"
):
    """The model after `updates` updates of all weights, in place; half the images are mirrored.

    AdamW, one cycle of the rate. BatchNorm's statistics are held.
    """
    freeze(model, through=None, batchnorm=batchnorm).train().to(memory_format=torch.channels_last)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=updates)
    for rows in batches(len(labels), updates, size, seed):
        x, turned = images[rows], torch.rand(len(rows)).view(-1, 1, 1, 1) < 0.5
        x = model.normalisation(torch.where(turned, x.flip(3), x))
        with autocast(best_device()):
            outputs = model(x.contiguous(memory_format=torch.channels_last))
        answers = None if taught is None else taught[rows]
        loss = distillation_loss(outputs.float(), labels[rows], answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


# ---- the graph that goes to the clinic -----------------------------------------------------------


class Deployed(nn.Module):
    """uint8 images in, probabilities out: normalisation and softmax belong to the graph."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        for name in ("mean", "std"):
            values = torch.tensor(getattr(model.normalisation, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model((images.float() / 255 - self.mean) / self.std).softmax(1)


def export(model: nn.Module, images: torch.Tensor, file: Path) -> Path:
    """Write the model as an ONNX graph for any number of images; `images`: two examples."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Deployed(model).eval(),
            (images[:2],),
            str(file),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    return file


class Calibration:
    """Images for the ranges of the activations, batch after batch; from training patients only."""

    def __init__(self, images: torch.Tensor, size: int = 32):
        self.batches = iter(images.split(size))

    def get_next(self) -> dict | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch.numpy()}


def quantised(file: Path, images: torch.Tensor, out: Path) -> Path:
    """Static int8: weights per channel, signed; activations unsigned, ranges seen on `images`."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = out.with_suffix(".ready.onnx")
    quant_pre_process(str(file), str(ready))
    quantize_static(
        str(ready),
        str(out),
        Calibration(images),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "Relu", "MaxPool", "Add", "ReduceMean", "Gemm"],
    )
    ready.unlink()
    return out


def session(file: Path):
    """An ONNX Runtime session with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def answers(file: Path, images: torch.Tensor, size: int = 64) -> np.ndarray:
    """Probabilities (N, C) of the graph in `file`."""
    run = session(file).run
    return np.concatenate([run(None, {"images": x.numpy()})[0] for x in images.split(size)])


def int8_answers(model: nn.Module, calibration: torch.Tensor, *images: torch.Tensor) -> list:
    """Probabilities of the model's int8 graph for each set of images; nothing stays on disk."""
    with TemporaryDirectory() as folder:
        graph = export(model, calibration, Path(folder) / "float.onnx")
        small = quantised(graph, calibration, Path(folder) / "int8.onnx")
        return [answers(small, x) for x in images]
