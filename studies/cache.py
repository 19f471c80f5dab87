"""The cells of the studies on disk: what a result depends on, and files that are whole."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from medtl_utils import load_model
from medtl_utils.checkpoint import whole_file
from medtl_utils.paths import cache_folder

# the modules on which each training depends
HELPER = tuple(
    f"medtl_utils.{name}"
    for name in ("training", "augmentation", "models", "model_files", "sources", "architectures")
    + ("grouping", "phantom", "phantom_fields", "phantom_render", "phantom_tables")
    + ("datasets.phantom", "datasets.medmnist", "datasets.medmnist_files")
)


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _bound_names(statement: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    return [n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)]


def _reached(function: Callable) -> list[str]:
    """The function, and all that it uses of its own module, to any depth.

    As syntax trees: comments and layout do not count.
    """
    tree = ast.parse(inspect.getsource(sys.modules[function.__module__]))
    defined = {name: statement for statement in tree.body for name in _bound_names(statement)}
    todo, found = [function.__name__], {}
    while todo:
        name = todo.pop()
        if name in defined and name not in found:
            found[name] = ast.dump(defined[name])
            todo += [n.id for n in ast.walk(defined[name]) if isinstance(n, ast.Name)]
    return [found[name] for name in sorted(found)]


def made_by(
    function: Callable, code: Sequence[str] = HELPER, weights: Path | str | None = None
) -> str:
    """SHA-256 of the code and the weights that make a result: the same text for the same bits.

    `weights`: a file, or its SHA-256, which is enough to find a cell that is kept.
    """
    modules = [Path(importlib.util.find_spec(name).origin).read_text() for name in code]
    parts = [*_reached(function), *(ast.dump(ast.parse(text)) for text in modules)]
    parts.append(sha256_of(weights) if isinstance(weights, Path) else weights or "")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# ---- one cell, one file --------------------------------------------------------------------------


def _checksum(key: str, arrays: dict[str, np.ndarray]) -> str:
    total = hashlib.sha256(key.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()


def read(file: Path, key: str) -> dict[str, np.ndarray] | None:
    """The arrays of a file that is whole and has this key, or None."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        same = str(arrays.pop("checksum")) == _checksum(key, arrays)
    except Exception:  # a damaged archive fails in a dozen ways; it is made again
        return None
    return arrays if same else None


def _write(file: Path, key: str, arrays: dict[str, np.ndarray]) -> None:
    with whole_file(file) as part, open(part, "wb") as out:
        np.savez(out, checksum=np.asarray(_checksum(key, arrays)), **arrays)


def place(study: str, recipe: dict, maker: str) -> tuple[Path, str]:
    """The file of a recipe, and its key."""
    text = json.dumps([study, recipe, maker], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    label = re.sub(r"[^A-Za-z0-9.]+", "-", "_".join(map(str, recipe.values())))
    return cache_folder() / "studies" / study / f"{label[:80]}_{key[:16]}.npz", key


def keep(study: str, recipe: dict, make: Callable[[], dict], maker: str) -> dict[str, np.ndarray]:
    """What `make` returns, made once: read where the cache has a whole file of recipe and maker.

    `maker`: from `made_by`. The arrays have one more, `seconds`, what they took.
    """
    file, key = place(study, recipe, maker)
    arrays = read(file, key)
    if arrays is None:
        began = time.time()
        arrays = {name: np.asarray(value) for name, value in make().items()}
        arrays["seconds"] = np.asarray(time.time() - began)
        _write(file, key, arrays)
        print(f"{study}  {file.stem.rsplit('_', 1)[0]}  {arrays['seconds']:.0f} s", flush=True)
    return arrays


def bytes_of(model_file: Path) -> np.ndarray:
    """A model's file as uint8 (N,), so that a cell can keep it."""
    return np.frombuffer(model_file.read_bytes(), np.uint8)


def model_of(model_bytes: np.ndarray) -> nn.Module:
    """The model of `bytes_of`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        file.write_bytes(model_bytes.tobytes())
        return load_model(file)


# ---- many cells, one file that is committed -----------------------------------------------------


def pack(file: Path, jobs: Sequence[tuple[Path, str]]) -> int:
    """Write the whole cells among `jobs`, (file, key) each, into one npz; returns their number."""
    arrays = {}
    for cell, key in jobs:
        for name, array in (read(cell, key) or {}).items():
            arrays[f"{key}/{name}"] = array
    with whole_file(file) as part, open(part, "wb") as out:
        np.savez_compressed(out, **arrays)
    return len({name.split("/")[0] for name in arrays})


def unpack(file: Path, jobs: Sequence[tuple[Path, str]]) -> None:
    """Put the cells of a packed file, those of the same key, where the cache lacks them."""
    if not file.is_file():
        return
    with np.load(file, allow_pickle=False) as packed:
        for cell, key in jobs:
            names = [name for name in packed.files if name.startswith(f"{key}/")]
            if names and read(cell, key) is None:
                _write(cell, key, {name.split("/", 1)[1]: packed[name] for name in names})
