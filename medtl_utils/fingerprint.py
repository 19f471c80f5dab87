"""Short texts by which a run is known again: the same for the same data, code and weights."""

from __future__ import annotations

import contextlib
import enum
import functools
import hashlib
import re
import types
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

# Their functions and classes count by name alone, so that an update of a library makes no new run.
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "sklearn", "builtins", "functools")


def describe(value: object) -> str:
    """A short text that is the same for the same value, in another process too.

    Tensors and arrays count by content; functions by name, code, defaults and the values that they
    read from outside; objects by class and attributes; libraries' functions by name. Lists, dicts
    and sets that a function reads from outside are taken for its notes, which change while it
    runs, and do not count: give settings as numbers, tuples or tensors.
    """
    text = _text(value, {})
    if len(text) <= 60:
        return text
    return f"{text[:40].rstrip()}… #{_digest(text.encode())}"


def describe_model(model: nn.Module) -> dict[str, str]:
    """Network, weights, frozen parameters, hooks (such as `set_batchnorm`'s) and normalisation."""
    hooks = [
        (name, [getattr(hook, "__qualname__", type(hook).__name__) for hook in kind.values()])
        for name, layer in model.named_modules()
        for kind in (layer._forward_pre_hooks, layer._forward_hooks)
        if kind
    ]
    return {
        "network": describe(str(model)),
        "start model": describe(dict(model.state_dict())),
        "frozen parameters": describe(
            [n for n, p in model.named_parameters() if not p.requires_grad]
        ),
        "BatchNorm modes and hooks": describe(hooks),
        "normalisation": describe(model.normalisation),
    }


def describe_run(run, weight_decay: float) -> dict:
    """What makes a training the same one: another value of any of these gives other weights.

    `run`: what `fine_tune` was given. Made before the training starts.
    """
    names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    rates = [
        {k: _plain(v) for k, v in group.items() if k != "params"}
        | {"parameters": describe([names[id(p)] for p in group["params"]])}
        for group in run.groups()
    ]
    data = {
        f"{part} {what}": describe(getattr(split, what))
        for part, split in (("training", run.task.train), ("validation", run.task.val))
        for what in ("images", "labels")
    }
    return {
        "epochs": int(run.epochs),
        "batch_size": int(run.batch_size),
        "seed": int(run.seed),
        "learning rates": rates,
        "weight decay": weight_decay,
        "augmentation": describe(run.augment),
        "loss": describe(run.loss),
        "class weights": describe(run.class_weights),
        **data,
        **describe_model(run.model),
    }


def _plain(value: object) -> str | int | float | None:
    """A value that JSON can hold: numbers and text as they are, anything else described."""
    return value if isinstance(value, (str, int, float, type(None))) else describe(value)


def _digest(content) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _is_library(thing: object) -> bool:
    return (getattr(thing, "__module__", None) or "builtins").split(".")[0] in LIBRARIES


def _text(value: object, seen: dict[int, object]) -> str:
    """The whole text, of which `describe` keeps the beginning.

    `seen`: id -> object, for everything described so far, so that circles end.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, enum.Enum)):
        return repr(value)
    if isinstance(value, torch.Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"{value.dtype} {tuple(value.shape)} #{_digest(raw)}"
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype} {value.shape} #{_digest(np.ascontiguousarray(value))}"
    if isinstance(value, (type, types.ModuleType)):
        return getattr(value, "__qualname__", value.__name__)
    inside = functools.partial(_text, seen=seen)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(inside, value)) + ")"
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(map(inside, value))) + "}"
    if isinstance(value, types.CodeType):
        return f"{_digest(value.co_code)} {value.co_names} {inside(value.co_consts)}"
    if id(value) in seen:
        return "as above"
    seen[id(value)] = value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{inside(k)}: {inside(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inside, value)) + "]"
    if isinstance(value, set):
        return "{" + ", ".join(sorted(map(inside, value))) + "}"
    if isinstance(value, types.FunctionType):
        return _function(value, inside)
    if isinstance(value, types.MethodType):
        return f"{inside(value.__func__)} of {inside(value.__self__)}"
    if isinstance(value, functools.partial):
        return f"{inside(value.func)} with {inside(value.args)} {inside(value.keywords)}"
    return _object(value, inside)


def _names(code: types.CodeType) -> set[str]:
    """Every global name that this code, or a function inside it, may read."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _function(function: types.FunctionType, inside) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    if _is_library(function):
        return name
    code = function.__code__
    cells = zip(code.co_freevars, function.__closure__ or ())
    outside = {
        k: function.__globals__[k] for k in sorted(_names(code)) if k in function.__globals__
    }
    for key, cell in cells:
        with contextlib.suppress(ValueError):  # a cell that is still empty
            outside[key] = cell.cell_contents
    settings = [function.__defaults__, function.__kwdefaults__]
    read = {k: v for k, v in outside.items() if not isinstance(v, (list, dict, set))}
    return f"{name} {inside((code, settings, read))}"


def _object(value: object, inside) -> str:
    """An instance: its class, that class's code if it is no library's, and its attributes."""
    kind = type(value)
    methods = [
        method
        for parent in kind.__mro__
        if not _is_library(parent)
        for method in vars(parent).values()
        if isinstance(method, types.FunctionType)
    ]
    attributes = getattr(value, "__dict__", None)
    if attributes is None:
        own = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
    else:
        own = inside({k: v for k, v in attributes.items() if k != "training"})
    return f"{kind.__module__}.{kind.__qualname__} {inside(methods)} {own}"
