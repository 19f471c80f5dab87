"""Networks from a source: replace the head, freeze, group parameters by block.

Where weights come from is in `sources`; how a model is written and read, in `model_files`.
"""

from __future__ import annotations

from torch import nn

from .architectures import (  # noqa: F401
    BLOCKS,
    Blocks,
    architecture_of,
    block_of,
    blocks_of,
    head_of,
    make_network,
)
from .model_files import GREY, Normalisation, load_model, save_model  # noqa: F401
from .sources import SOURCES, ULTRASOUND_FILE, ULTRASOUND_SHA256, source_model  # noqa: F401

LAST = "last"  # `freeze`: the last block below the head, whatever its name


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
    through: str | None = LAST,
    batchnorm: str = "frozen",
    blocks: Blocks | None = None,
) -> nn.Module:
    """Freeze the shared layers from the stem up to and including block `through`.

    Everything above stays trainable. `through`: "last", the last block below the head, in any
    network ("layer4" in a ResNet); the name of a block, "stem" or "layer1" ... "layer4" in a
    ResNet, those of `blocks_of` in another network; or None to freeze no weights. `batchnorm`: see
    `set_batchnorm`; it is applied to the frozen blocks (with None: to all), because
    requires_grad=False alone leaves BatchNorm's running statistics moving. `blocks`: as in
    `param_groups`. Calling it again starts afresh. Returns the same model. Raises ValueError for a
    block that the network has not, or a network whose blocks are not known.
    """
    layout = [] if through is None else blocks_of(model, blocks)
    names = [name for name, *_ in layout[:-1]]  # the last row is the head
    if through == LAST and names:
        through = names[-1]
    if through is not None and through not in names:
        raise ValueError(
            f"Cannot freeze through {through!r}. Choose one of: {', '.join(names)}, "
            f"{LAST}, or None."
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
