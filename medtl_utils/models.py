"""Source models: load, look at their parts, replace the head, freeze, group parameters, save and load again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torchvision import models as tv

from .data import DataError, data_folder

SOURCES = ("ultrasound", "imagenet", "random")
BLOCKS = (
    "stem",
    "layer1",
    "layer2",
    "layer3",
    "layer4",
)  # shared layers of a ResNet, from the image to the head
ULTRASOUND_FILE = "ultrasound_resnet18.safetensors"
ULTRASOUND_SHA256 = "4515f5003672d79c904a6c206cdafa6019e97ffe8ecc4b764f1678031d47fab8"


@dataclass(frozen=True)
class Normalisation:
    """How a model wants its images: (pixel / 255 - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 or float (N, 1 or C, H, W) with values 0..255 -> float32 (N, channels, H, W). Grey images are repeated."""
        if images.ndim != 4 or images.shape[1] not in (1, self.channels):
            raise ValueError(
                f"images must have shape (N, 1 or {self.channels}, H, W); got {tuple(images.shape)}."
            )
        mean, std = (
            torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (self.mean, self.std)
        )
        return (images.float() / 255 - mean) / std  # broadcasting repeats a single grey channel


GREY = Normalisation((0.33,) * 3, (0.25,) * 3)  # simulated ultrasound: mean and SD of its pixels


def source_model(name: str) -> nn.Module:
    """A ResNet-18 with the knowledge of a source task, its own head, and its `normalisation`.

    `name`: "ultrasound" (ships with the course: descriptors of simulated ultrasound, see its card in data/), "imagenet"
    (torchvision's IMAGENET1K_V1 through torchvision's own download and cache; that file is a pickle, which torchvision
    loads) or "random" (no knowledge: what training from scratch starts from; it uses torch's global random state).
    Raises ValueError for another name, DataError where weights are missing or wrong. Nothing falls back silently.
    He et al., "Deep residual learning", CVPR 2016.
    """
    if name == "ultrasound":
        return load_model(data_folder() / ULTRASOUND_FILE, sha256=ULTRASOUND_SHA256)
    if name == "random":
        model = tv.resnet18()
        model.normalisation = GREY
        return model
    if name == "imagenet":
        weights = tv.ResNet18_Weights.IMAGENET1K_V1
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        try:
            model = tv.resnet18(weights=weights, progress=False)
        except (
            Exception
        ) as error:  # no network, cut-off file, wrong hash: torch raises half a dozen types
            raise DataError(
                f"The ImageNet weights could not be loaded from {file} ({type(error).__name__}: {error}). Expected the "
                f"file of {weights.url}. Download that file on a machine with a network and put it there."
            ) from error
        transform = weights.transforms()
        model.normalisation = Normalisation(tuple(transform.mean), tuple(transform.std))
        return model
    raise ValueError(f"Unknown source {name!r}. Choose one of: {', '.join(SOURCES)}.")


def replace_head(model: nn.Module, n_classes: int) -> nn.Module:
    """Swap the source's specific layer `fc` for a new, random one with `n_classes` outputs; returns the same model.

    One output makes a regression layer. Uses torch's global random state. Raises ValueError without a Linear `fc`.
    """
    if not isinstance(getattr(model, "fc", None), nn.Linear):
        raise ValueError(
            "replace_head expects a model whose head is a Linear layer called `fc`, as in torchvision's ResNet."
        )
    if n_classes < 1:
        raise ValueError(f"n_classes must be at least 1; got {n_classes}.")
    model.fc = nn.Linear(model.fc.in_features, n_classes)
    model.__dict__.pop("heads", None)
    return model


def block_of(parameter_name: str) -> str:
    """The block a ResNet parameter belongs to: "stem" (conv1, bn1), "layer1" ... "layer4" or "fc"."""
    first = parameter_name.split(".")[0]
    return "stem" if first in ("conv1", "bn1") else first


def _hold_eval(module: nn.Module, _inputs) -> None:
    """Forward pre-hook: whatever model.train() said, this BatchNorm uses, and does not change, its running statistics."""
    module.eval()


def set_batchnorm(module: nn.Module, mode: str) -> None:
    """Fix the behaviour of every BatchNorm inside `module`; it survives model.train().

    "train": normalise by the batch, update the running statistics (PyTorch's default in training).
    "eval": normalise by the source's running statistics, which stay as they are; scale and shift can learn.
    "frozen": as "eval", and scale and shift do not learn either.
    """
    if mode not in ("train", "eval", "frozen"):
        raise ValueError(f'batchnorm must be "train", "eval" or "frozen"; got {mode!r}.')
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for key in [k for k, hook in layer._forward_pre_hooks.items() if hook is _hold_eval]:
                del layer._forward_pre_hooks[key]
            if mode != "train":
                layer.eval().register_forward_pre_hook(_hold_eval)
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(mode != "frozen")


def freeze(
    model: nn.Module, through: str | None = "layer4", batchnorm: str = "frozen"
) -> nn.Module:
    """Freeze the shared layers from the stem up to and including block `through`; everything above stays trainable.

    `through`: one of BLOCKS, or None to freeze no weights. `batchnorm`: see `set_batchnorm`; it is applied to the frozen
    blocks (with None: to all), because requires_grad=False alone leaves BatchNorm's running statistics moving.
    Calling it again starts afresh. Returns the same model.
    """
    if through is not None and through not in BLOCKS:
        raise ValueError(
            f"Cannot freeze through {through!r}. Choose one of: {', '.join(BLOCKS)}, or None."
        )
    set_batchnorm(model, "train")
    model.requires_grad_(True)
    if through is None:
        set_batchnorm(model, batchnorm)
        return model
    frozen = BLOCKS[: BLOCKS.index(through) + 1]
    for name, child in model.named_children():
        if block_of(name) in frozen:
            child.requires_grad_(False)
            set_batchnorm(child, batchnorm)
            if (
                batchnorm == "train"
            ):  # "train" concerns the statistics; the weights of a frozen block stay frozen
                child.requires_grad_(False)
    return model


def param_groups(model: nn.Module, lr: float = 1e-3, decay: float = 0.5) -> list[dict]:
    """Discriminative learning rates: the head learns at `lr`, every block further from it `decay` times slower.

    Returns optimiser groups (dicts with name, params, lr) of the trainable parameters, from the stem to the head.
    Howard & Ruder, "Universal language model fine-tuning", ACL 2018, section 3.2.
    """
    if lr <= 0 or not 0 < decay <= 1:
        raise ValueError(
            f"param_groups needs lr > 0 and 0 < decay <= 1; got lr={lr}, decay={decay}."
        )
    blocks: dict[str, list] = {}
    for name, parameter in model.named_parameters():
        blocks.setdefault(block_of(name), []).append(parameter)
    groups = [
        {
            "name": name,
            "params": [p for p in params if p.requires_grad],
            "lr": lr * decay ** (len(blocks) - 1 - depth),
        }
        for depth, (name, params) in enumerate(blocks.items())
    ]
    return [group for group in groups if group["params"]]


def save_model(model: nn.Module, path: str | Path, half: bool = False, **about: str) -> Path:
    """Write weights, normalisation and `about` (text) as safetensors; `half` stores convolutions and head as float16.

    The file appears whole or not at all. Returns the path. Loading: `load_model`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in model.state_dict().items():
        small = tensor.ndim < 2  # BatchNorm statistics and biases: little to save, much to lose
        tensors[name] = (
            (tensor.half() if half and not small else tensor).detach().cpu().contiguous()
        )
    metadata = {
        "architecture": "resnet18",
        "n_outputs": str(model.fc.out_features),
        "normalisation": json.dumps(asdict(model.normalisation)),
        **about,
    }
    if hasattr(model, "heads"):
        metadata["heads"] = json.dumps(model.heads)
    temporary = path.with_name(path.name + ".part")
    save_file(tensors, temporary, metadata)
    os.replace(temporary, path)
    return path


def load_model(path: str | Path, sha256: str | None = None) -> nn.Module:
    """Read a model written by `save_model`, in evaluation mode, as float32.

    `sha256`: if given, the file must have this hash. Raises DataError, naming the file, where it is missing, cut off,
    of another hash, or not a model of this course. No pickle is involved.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"The model file {path} is missing. Get it again, e.g. with `git checkout -- data`."
        )
    if sha256 is not None:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != sha256:
            raise DataError(
                f"{path} has the SHA-256 {found[:16]}…, expected {sha256[:16]}…: it is damaged or another file. "
                "Put the original back, e.g. with `git checkout -- data`."
            )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        model = tv.resnet18(num_classes=int(metadata["n_outputs"]))
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
        norm = json.loads(metadata["normalisation"])
        model.normalisation = Normalisation(
            tuple(norm["mean"]), tuple(norm["std"]), norm["channels"]
        )
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path} is not a complete model file ({type(error).__name__}: {str(error)[:120]}). Expected safetensors "
            "written by save_model. Save or copy it again."
        ) from error
    if "heads" in metadata:
        model.heads = json.loads(metadata["heads"])
    return model.eval()
