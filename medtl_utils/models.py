"""Source models: load, replace the head, freeze, group parameters, save and load again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torchvision import models as tv

from .architectures import (  # noqa: F401
    BLOCKS,
    Blocks,
    architecture_of,
    block_of,
    blocks_of,
    head_of,
    make_network,
)
from .checkpoint import whole_file
from .data import DataError
from .paths import data_folder

SOURCES = ("ultrasound", "imagenet", "random")
ULTRASOUND_FILE = "ultrasound_resnet18.safetensors"
ULTRASOUND_SHA256 = "4515f5003672d79c904a6c206cdafa6019e97ffe8ecc4b764f1678031d47fab8"


@dataclass(frozen=True)
class Normalisation:
    """How a model wants its images: (pixel / 255 - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 or float (N, 1 or C, H, W), values 0..255 -> float32 (N, channels, H, W).

        Grey images are repeated. Raises ValueError for another shape.
        """
        if images.ndim != 4 or images.shape[1] not in (1, self.channels):
            raise ValueError(
                f"images must have shape (N, 1 or {self.channels}, H, W); "
                f"got {tuple(images.shape)}. Put the channels second, or use another model."
            )
        mean, std = (
            torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (self.mean, self.std)
        )
        return (images.float() / 255 - mean) / std  # broadcasting repeats a single grey channel


GREY = Normalisation((0.33,) * 3, (0.25,) * 3)  # simulated ultrasound: mean and SD of its pixels


def source_model(name: str) -> nn.Module:
    """A ResNet-18 with the knowledge of a source task, its own head, and its `normalisation`.

    `name`: "ultrasound" (ships with the course: descriptors of simulated ultrasound, see its card
    in data/), "imagenet" (torchvision's IMAGENET1K_V1 through torchvision's own download and cache;
    that file is a pickle, which torchvision loads) or "random" (no knowledge: what training from
    scratch starts from; it uses torch's global random state). Raises ValueError for another name,
    DataError where weights are missing or wrong. Nothing falls back silently.
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
        except Exception as error:  # no network, cut-off file, wrong hash: half a dozen types
            raise DataError(
                f"The ImageNet weights could not be loaded from {file} ({type(error).__name__}: "
                f"{error}). Expected the file of {weights.url}. Download that file on a machine "
                "with a network and put it there."
            ) from error
        transform = weights.transforms()
        model.normalisation = Normalisation(tuple(transform.mean), tuple(transform.std))
        return model
    raise ValueError(f"Unknown source {name!r}. Choose one of: {', '.join(SOURCES)}.")


def replace_head(model: nn.Module, n_classes: int) -> nn.Module:
    """Swap the source's specific layer for a new, random one with `n_classes` outputs.

    The layer is a Linear called `fc` (ResNet), `classifier` (DenseNet, EfficientNet) or `head`. One
    output makes a regression layer. Uses torch's global random state; returns the same model.
    Raises ValueError without such a layer.
    """
    name, layer = head_of(model)
    if n_classes < 1:
        raise ValueError(f"n_classes must be at least 1; got {n_classes}.")
    setattr(model, name, nn.Linear(layer.in_features, n_classes))
    model.__dict__.pop("heads", None)
    return model


def _hold_eval(module: nn.Module, _inputs) -> None:
    """Forward pre-hook: in training too, BatchNorm uses and keeps its running statistics."""
    module.eval()


def set_batchnorm(module: nn.Module, mode: str) -> None:
    """Fix the behaviour of every BatchNorm inside `module`; it survives model.train().

    "train": normalise by the batch, update the running statistics (PyTorch's default in training).
    "eval": normalise by the source's running statistics, which stay as they are; scale and shift
    can learn.
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
    model: nn.Module,
    through: str | None = "layer4",
    batchnorm: str = "frozen",
    blocks: Blocks | None = None,
) -> nn.Module:
    """Freeze the shared layers from the stem up to and including block `through`.

    Everything above stays trainable. `through`: "stem" or "layer1" ... "layer4" in a ResNet, the
    blocks of `blocks_of` in another network, or None to freeze no weights. `batchnorm`: see
    `set_batchnorm`; it is applied to the frozen blocks (with None: to all), because
    requires_grad=False alone leaves BatchNorm's running statistics moving. `blocks`: as in
    `param_groups`. Calling it again starts afresh. Returns the same model. Raises ValueError for a
    block that the network has not, or a network whose blocks are not known.
    """
    layout = [] if through is None else blocks_of(model, blocks)
    names = [name for name, *_ in layout[:-1]]  # the last row is the head
    if through is not None and through not in names:
        raise ValueError(
            f"Cannot freeze through {through!r}. Choose one of: {', '.join(names)}, or None."
        )
    set_batchnorm(model, "train")
    model.requires_grad_(True)
    if through is None:
        set_batchnorm(model, batchnorm)
        return model
    for _, *parts in layout[: names.index(through) + 1]:
        for part in map(model.get_submodule, parts):
            part.requires_grad_(False)
            set_batchnorm(part, batchnorm)
            if batchnorm == "train":  # it concerns the statistics; the weights stay frozen
                part.requires_grad_(False)
    return model


def param_groups(
    model: nn.Module, lr: float = 1e-3, decay: float = 0.5, blocks: Blocks | None = None
) -> list[dict]:
    """Discriminative learning rates: `lr` for the head, `decay` times as much for each block below.

    Returns optimiser groups (dicts with name, params, lr) of the trainable parameters, from the
    stem to the head. `blocks`: for a network that is not a ResNet, DenseNet-121 or
    EfficientNet-Lite0, rows of a name and the modules that belong to it, from the image to the
    head, e.g. (("stem", "features.0"), ("body", "features.1", "features.2"), ("head", "head")).
    Raises ValueError where a network's blocks are not known, and for rates that cannot work.
    Howard & Ruder, "Universal language model fine-tuning", ACL 2018, section 3.2.
    """
    if lr <= 0 or not 0 < decay <= 1:
        raise ValueError(
            f"param_groups needs lr > 0 and 0 < decay <= 1; got lr={lr}, decay={decay}."
        )
    layout = blocks_of(model, blocks)
    members: dict[str, list] = {name: [] for name, *_ in layout}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[block_of(name, layout)].append(parameter)
    groups = [
        {"name": name, "params": params, "lr": lr * decay ** (len(members) - 1 - depth)}
        for depth, (name, params) in enumerate(members.items())
    ]
    return [group for group in groups if group["params"]]


def save_model(model: nn.Module, path: str | Path, half: bool = False, **about: str) -> Path:
    """Write weights, architecture, normalisation and `about` (text) as safetensors.

    `half` stores convolutions and head as float16. The file appears whole or not at all. Returns
    the path. Loading: `load_model`. Raises ValueError for a network that could not be loaded again
    (see `architecture_of`), or without a Normalisation; nothing is written then.
    """
    path = Path(path)
    architecture, normalisation = architecture_of(model), getattr(model, "normalisation", None)
    if not isinstance(normalisation, Normalisation):
        raise ValueError(
            f"The model's `normalisation` must be a Normalisation; got {normalisation!r}. Set "
            "model.normalisation = Normalisation(mean, std) from medtl_utils.models."
        )
    tensors = {}
    for name, tensor in model.state_dict().items():
        small = tensor.ndim < 2  # BatchNorm statistics and biases: little to save, much to lose
        tensor = tensor.half() if half and not small else tensor
        tensors[name] = tensor.detach().cpu().contiguous()
    metadata = {
        "architecture": architecture,
        "n_outputs": str(head_of(model)[1].out_features),
        "normalisation": json.dumps(asdict(normalisation)),
        **about,
    }
    if hasattr(model, "heads"):
        metadata["heads"] = json.dumps(model.heads)
    with whole_file(path) as part:
        save_file(tensors, part, metadata)
    return path


def load_model(path: str | Path, sha256: str | None = None) -> nn.Module:
    """Read a model written by `save_model`, in evaluation mode, as float32.

    `sha256`: if given, the file must have this hash. Raises DataError, naming the file, where it is
    missing, cut off, of another hash, or not a model of this course; ImportError where the library
    that makes its network is not installed. No pickle is involved.
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
                f"{path} has the SHA-256 {found[:16]}…, expected {sha256[:16]}…: it is damaged or "
                "another file. Put the original back, e.g. with `git checkout -- data`."
            )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        model = make_network(metadata["architecture"], int(metadata["n_outputs"]))
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
        norm = json.loads(metadata["normalisation"])
        model.normalisation = Normalisation(
            tuple(norm["mean"]), tuple(norm["std"]), norm["channels"]
        )
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path} is not a complete model file ({type(error).__name__}: {str(error)[:120]}). "
            "Expected safetensors written by save_model. Save or copy it again."
        ) from error
    if "heads" in metadata:
        model.heads = json.loads(metadata["heads"])
    return model.eval()
