"""Checkpoints of a training: written whole or not at all, read without a map, tied to one run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn

from .data import DataError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; it takes path's place when the block ends without an error.

    A write that is killed, or finds no room, leaves `path` as it was; after a power cut, too, it
    is one or the other. The temporary name is this machine's and process's own. What a killed
    write left behind is removed by the next write of the same file on the same machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    part = path.with_name(f"{path.name}.{_machine()}.{os.getpid()}.part")
    try:
        yield part
        if part.is_file():
            with open(part, "rb+") as written:
                os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _machine() -> str:
    """A short name of this machine: process numbers mean nothing on another one."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _sweep(path: Path) -> None:
    """Remove temporary files of `path` whose process, on this machine, is gone.

    Not on Windows, where asking for a process may end it.
    """
    if os.name != "posix":
        return
    ours = re.compile(re.escape(f"{path.name}.{_machine()}.") + r"([1-9]\d{0,9})\.part")
    with contextlib.suppress(OSError):  # a folder that cannot be listed can still be written to
        for file in path.parent.iterdir():
            named = ours.fullmatch(file.name)
            if named and _is_gone(int(named[1])):
                file.unlink(missing_ok=True)  # another process may sweep, too


def _is_gone(process: int) -> bool:
    """Whether no process has this number; a process of somebody else is there."""
    try:
        os.kill(process, 0)  # 0: no signal, a question
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def store(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, history: dict, run: dict
) -> None:
    """Write model, optimiser state, `history` and `run` (both JSON) as one safetensors file.

    It replaces the older file only when it is whole. Raises OSError where it cannot be written.
    """
    tensors = {f"model/{k}": v.contiguous() for k, v in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer/{number}/{k}": v.contiguous() for k, v in state.items()})
    try:
        with whole_file(Path(path)) as part:
            save_file(tensors, part, {"history": json.dumps(history), "run": json.dumps(run)})
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"The checkpoint {path} could not be written ({error}). The disk may be full. What was "
            "there before is unharmed: make room, call again, and the training goes on from it."
        ) from error


def _read(path: Path, content: bytes | None = None) -> tuple[dict[str, torch.Tensor], dict, dict]:
    """Tensors, history and run of a checkpoint; of its `content`, where another has read it.

    The bytes are copied, not mapped: Windows does not replace a file that is mapped.
    """
    try:
        content = path.read_bytes() if content is None else content
        tensors = load(content)
        header = content[8 : 8 + int.from_bytes(content[:8], "little")]
        metadata = json.loads(header)["__metadata__"]
        return tensors, json.loads(metadata["history"]), json.loads(metadata["run"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(
            f"The checkpoint {path} cannot be read ({error}). Move it away to start afresh."
        ) from error


def resume(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule,
    run: dict,
    content: bytes | None = None,
) -> dict:
    """Put model, optimiser and schedule back to where `store` left them; returns the history.

    `schedule`: a OneCycleLR, whose steps are shared evenly by run["epochs"]. `run`: what makes the
    run the same one. `content`: the file's bytes, where this process cannot read it. Raises
    ValueError, saying what differs, for a file of another run (nothing is changed then), DataError
    for a file that cannot be read.
    """
    path = Path(path)
    tensors, history, stored = _read(path, content)
    _check_same_run(path, stored, json.loads(json.dumps(run)))
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
    state: dict[int, dict] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, number, name = key.split("/")
            state.setdefault(int(number), {})[name] = tensor
    done = len(history["train_loss"])
    for _ in range(done * (schedule.total_steps // run["epochs"])):
        optimizer._opt_called = True  # the steps were taken in the earlier run
        schedule.step()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == weight.shape:  # fused kernels want the weights' layout in memory
                values[name] = torch.empty_like(weight).copy_(value)
    return history


def _check_same_run(path: Path, stored: dict, run: dict) -> None:
    differences = [
        f"{key} (there {stored.get(key, 'not stored')}, here {run.get(key, 'not given')})"
        for key in dict.fromkeys([*run, *stored])
        if stored.get(key) != run.get(key)
    ]
    if differences:
        raise ValueError(
            f"The checkpoint {path} belongs to another run. It differs in: "
            f"{'; '.join(differences)}. Name another file to start a new run. To go on with the "
            "old one, call with its arguments, data and start model (torch.manual_seed before the "
            "model is made)."
        )
