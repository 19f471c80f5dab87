"""Model files: weights, architecture and normalisation in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .architectures import (
    ARCHITECTURES,
    architecture_of,
    architecture_of_tensors,
    head_of,
    make_network,
)
from .checkpoint import whole_file
from .data import DataError

# Networks with the same tensors as one of ours: a file that names no architecture may hold them.
TWINS = {"tf_efficientnet_lite0": "timm's efficientnet_lite0 (other padding, another epsilon)"}


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


def save_model(model: nn.Module, path: str | Path, half: bool = False, **about: str) -> Path:
    """Write weights, architecture, normalisation and `about` (text) as safetensors.

    `half` stores convolutions and head as float16. The file appears whole or not at all. Returns
    the path. Loading: `load_model`. Raises ValueError for a network that could not be loaded again
    (see `architecture_of`), or without a Normalisation; nothing is written then.
    """
    path = Path(path).expanduser()
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


def check_hash(path: Path, content: bytes, sha256: str, remedy: str) -> None:
    """Raises DataError, naming the file and the remedy, where `content` has another SHA-256."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path} has the SHA-256 {found[:16]}…, expected {sha256[:16]}…: it is damaged or "
            f"another file. {remedy}"
        )


def load_model(path: str | Path, sha256: str | None = None) -> nn.Module:
    """Read a model from a safetensors file, in evaluation mode, as float32.

    The file is one that `save_model` wrote, or a plain state dict: then the architecture is found
    by the names and shapes of the tensors, and the file's metadata must hold "normalisation" as
    JSON, e.g. {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]} for pixels from 0 to 1. Shapes do
    not show strides or padding; "architecture" in the metadata names the network without doubt.

    `path`: relative paths and ~ are fine. `sha256`: if given, the file must have this hash. Raises
    DataError, naming the file, where it is missing, cut off, of another hash, without a
    normalisation, or of no known network; ImportError where the library that makes its network is
    not installed. Warns where another network has the same tensors. No pickle is involved.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(
            f"The model file {path} is missing. Check the path; a file of this course comes back "
            "with `git checkout -- data`."
        )
    if sha256 is not None:
        remedy = "Put the original back, e.g. with `git checkout -- data`."
        check_hash(path, path.read_bytes(), sha256, remedy)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        architecture = metadata.get("architecture") or architecture_of_tensors(tensors)
        model = _network_with(architecture, tensors)
        if "normalisation" in metadata:
            model.normalisation = _normalisation(metadata["normalisation"])
        if "heads" in metadata:
            model.heads = json.loads(metadata["heads"])
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path} is not a complete model file ({type(error).__name__}: {str(error)[:500]}). "
            "Expected safetensors: written by save_model, or the state dict of a known network. "
            "Save or copy it again. Pickles (.pt, .pth) are not read."
        ) from error
    if "normalisation" not in metadata:
        raise DataError(_how_to_add_normalisation(path, architecture, head_of(model)[1]))
    if "architecture" not in metadata and architecture in TWINS:
        warnings.warn(
            f"{path} names no architecture. It is taken for {architecture}; "
            f"{TWINS[architecture]} has the same tensors. To say which, put "
            f'"architecture": "{architecture}" into its metadata.',
            stacklevel=2,
        )
    return model.eval()


def _network_with(architecture: str, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """The network that holds `tensors`; its head has as many outputs as theirs."""
    if architecture in ARCHITECTURES:
        head = ARCHITECTURES[architecture][1][-1][0]
        n_outputs = len(tensors[f"{head}.weight"])
    else:
        n_outputs = 1  # make_network says what is known
    model = make_network(architecture, n_outputs)
    model.load_state_dict(
        {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    )
    return model


def _normalisation(text: str) -> Normalisation:
    """The Normalisation that a file's metadata hold as JSON; ValueError where they hold none."""
    try:
        found = json.loads(text)
        mean, std = (tuple(float(value) for value in found[key]) for key in ("mean", "std"))
        channels = int(found.get("channels", len(mean)))
    except (ValueError, KeyError, TypeError, AttributeError):
        mean, std, channels = (), (), 0
    lengths_fit = all(len(values) in (1, channels) for values in (mean, std))
    if not (lengths_fit and all(map(math.isfinite, mean + std)) and min(std, default=0) > 0):
        raise ValueError(
            'the metadata "normalisation" must be JSON with a mean and a positive std for each '
            f'channel, such as {{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}; got {text!r}'
        )
    return Normalisation(mean, std, channels)


def _how_to_add_normalisation(path: Path, architecture: str, head: nn.Linear) -> str:
    """What to tell about a file whose weights are fine but whose normalisation is not known."""
    new = path.with_name(f"{path.stem}_with_normalisation.safetensors")
    return (
        f"{path} does not say how its images are normalised, and nothing is guessed. Write it "
        "again with the mean and std of its training (of pixels from 0 to 1, e.g. ImageNet's mean "
        "= (0.485, 0.456, 0.406), std = (0.229, 0.224, 0.225)):\n"
        "from safetensors.torch import load_file\n"
        "from medtl_utils.models import Normalisation, make_network, save_model\n"
        f"model = make_network({architecture!r}, {head.out_features})\n"
        f"model.load_state_dict(load_file({str(path)!r}))\n"
        "model.normalisation = Normalisation(mean, std)\n"
        f"save_model(model, {str(new)!r})"
    )
