"""Checkpoints: tied to one run, whole or not there, not mapped, and a model that stays usable."""

import contextlib
import copy
import dataclasses
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

from medtl_utils import checkpoint, training
from medtl_utils.data import DataError
from medtl_utils.models import Normalisation, set_batchnorm
from medtl_utils.training import fine_tune
from tests.conftest import make_split


def small(seed=0):
    """A network of three layers, so that a run takes milliseconds."""
    torch.manual_seed(seed)
    layers = OrderedDict(
        conv=nn.Conv2d(3, 4, 3, 2), bn=nn.BatchNorm2d(4), pool=nn.AdaptiveAvgPool2d(1)
    )
    model = nn.Sequential(layers | {"flat": nn.Flatten(), "fc": nn.Linear(4, 2)})
    model.normalisation = Normalisation((0.5,) * 3, (0.5,) * 3)
    return model


@pytest.fixture
def tiny():
    """Not a Task: any object with `train` and `val` will do."""
    return SimpleNamespace(train=make_split("train"), val=make_split("val", 12, seed=1))


def run(model, task, path, **more):
    arguments = {"epochs": 2, "batch_size": 8, "progress": False} | more
    return fine_tune(model, task, checkpoint=path, **arguments)


# ---- another run ---------------------------------------------------------------------------------


def changed_part(task, part, what):
    split = getattr(task, part)
    new = getattr(split, what).clone()
    new[0] = 1 - new[0]
    return SimpleNamespace(**(vars(task) | {part: dataclasses.replace(split, **{what: new})}))


def first_frozen(model):
    model.conv.requires_grad_(False)
    return model


def statistics_held(model):
    set_batchnorm(model, "eval")
    return model


def groups_of(model):
    first = {"name": "first", "params": list(model.conv.parameters()), "lr": 1e-4}
    rest = [*model.bn.parameters(), *model.fc.parameters()]
    return [first, {"name": "rest", "params": rest, "lr": 1e-3}]


def other_normalisation(model):
    model.normalisation = Normalisation((0.4,) * 3, (0.5,) * 3)
    return model


OTHER_RUNS = {  # what differs -> how the second call is changed
    "seed": lambda m, t: (m, t, {"seed": 1}),
    "epochs": lambda m, t: (m, t, {"epochs": 3}),
    "batch_size": lambda m, t: (m, t, {"batch_size": 6}),
    "learning rates": lambda m, t: (m, t, {"lr": 1e-2}),
    "learning rates ": lambda m, t: (m, t, {"lr": groups_of(m)}),
    "augmentation": lambda m, t: (m, t, {"augmented": False}),
    "augmentation ": lambda m, t: (m, t, {"augment": lambda images: images.flip(-1)}),
    "loss": lambda m, t: (m, t, {"loss": F.cross_entropy}),
    "learning rates  ": lambda m, t: (m, t, {"lr": np.float32(0.5)}),
    "class weights": lambda m, t: (m, t, {"class_weights": torch.tensor([1.0, 2.0])}),
    "training images": lambda m, t: (m, changed_part(t, "train", "images"), {}),
    "training labels": lambda m, t: (m, changed_part(t, "train", "labels"), {}),
    "validation images": lambda m, t: (m, changed_part(t, "val", "images"), {}),
    "validation labels": lambda m, t: (m, changed_part(t, "val", "labels"), {}),
    "start model": lambda m, t: (small(seed=1), t, {}),
    "frozen parameters": lambda m, t: (first_frozen(m), t, {}),
    "BatchNorm modes and hooks": lambda m, t: (statistics_held(m), t, {}),
    "normalisation": lambda m, t: (other_normalisation(m), t, {}),
}


@pytest.mark.parametrize("what", OTHER_RUNS)
def test_a_checkpoint_of_another_run_is_refused(tiny, tmp_path, what):
    path = tmp_path / "run.safetensors"
    expected = run(small(), tiny, path)
    content = path.read_bytes()
    model, task, arguments = OTHER_RUNS[what](small(), tiny)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"run\.safetensors belongs to another run") as error:
        run(model, task, path, **arguments)
    assert f" {what.strip()} (there" in str(error.value) and "Name another file" in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert path.read_bytes() == content
    assert run(small(), tiny, path) == expected  # the same run is let in


def test_the_other_run_test_bites(tiny, tmp_path, monkeypatch):
    """Planted mistake: only epochs, batch size and seed count; the old history comes back."""

    def three_keys(path, stored, run):
        assert all(stored[k] == run[k] for k in ("epochs", "batch_size", "seed"))

    expected = run(small(), tiny, tmp_path / "run.safetensors")
    monkeypatch.setattr(checkpoint, "_check_same_run", three_keys)
    assert run(small(), tiny, tmp_path / "run.safetensors", lr=1e-2) == expected


def test_a_loss_that_takes_notes_goes_on(tiny, tmp_path):
    """A list that the loss writes to is no setting: an interrupted run is resumed with it."""
    steps = []

    def loss(outputs, labels):
        steps.append(1)
        if len(steps) == 6:  # the second epoch: three steps and one validation before
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, labels)

    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(small(), tiny, path, loss=loss)
    resumed, whole = small(), small()
    history = run(resumed, tiny, path, loss=loss)
    assert history == run(whole, tiny, tmp_path / "whole.safetensors", loss=loss)
    assert all(map(torch.equal, resumed.state_dict().values(), whole.state_dict().values()))


# ---- the file ------------------------------------------------------------------------------------


def mapped_while_resumed(tiny, path, monkeypatch):
    """Whether a resumed run, about to replace its file, still has it mapped (Windows refuses)."""
    seen = []

    def stop(*arguments):
        raise KeyboardInterrupt

    def look_and_store(*arguments):
        seen.append(str(path) in Path("/proc/self/maps").read_text())
        store(*arguments)
        monkeypatch.setattr(training, "store", stop)

    store = checkpoint.store
    for _ in range(2):  # one epoch, and after a stop the second one
        monkeypatch.setattr(training, "store", look_and_store)
        with contextlib.suppress(KeyboardInterrupt):
            run(small(), tiny, path)
    first, resumed = seen
    assert not first
    return resumed


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="only Linux lists its maps")
def test_no_map_of_the_file_remains(tiny, tmp_path, monkeypatch):
    assert not mapped_while_resumed(tiny, tmp_path / "run.safetensors", monkeypatch)

    def read_by_map(path, content=None):  # planted
        history_and_run = read(path)[1:]
        with safe_open(path, "pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, *history_and_run

    read = checkpoint._read
    monkeypatch.setattr(checkpoint, "_read", read_by_map)
    assert mapped_while_resumed(tiny, tmp_path / "mapped.safetensors", monkeypatch)


def survives_a_killed_write(tiny, path, monkeypatch):
    """Whether a write that stops half-way leaves the checkpoint of the epoch before."""

    def killed(tensors, part, metadata):
        real(tensors, part, metadata)
        os.truncate(part, os.path.getsize(part) // 2)
        raise KeyboardInterrupt

    real = checkpoint.save_file
    expected = run(small(), tiny, path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.store(path, small(), torch.optim.AdamW(small().parameters()), {}, {})
    try:
        return run(small(), tiny, path) == expected
    except DataError as error:
        assert "cannot be read" in str(error) and path.name in str(error)
        return False


def test_a_killed_write_never_counts_as_whole(tiny, tmp_path, monkeypatch):
    assert survives_a_killed_write(tiny, tmp_path / "run.safetensors", monkeypatch)
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    monkeypatch.setattr(checkpoint.os, "replace", lambda a, b: None)
    with monkeypatch.context() as patch, checkpoint.whole_file(tmp_path / "x") as part:
        first = part.name
        patch.setattr(os, "getpid", lambda: -1)
        with checkpoint.whole_file(tmp_path / "x") as other:
            assert other.name != first != "x"  # two processes do not write the same file


def left_behind(folder, whole_file) -> set[str]:
    """Temporary files after a write, where others lie: of a process that is gone, and not ours."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = checkpoint._machine()
    names = {
        "gone": f"run.{here}.{gone.pid}.part",
        "alive": f"run.{here}.{os.getppid()}.part",
        "elsewhere": f"run.0123abcd.{gone.pid}.part",
        "another file": f"run.done.{here}.{gone.pid}.part",
        "a name like it": f"run.{here}.{gone.pid}.part.txt",
    }
    for name in names.values():
        (folder / name).write_bytes(b"half")
    with whole_file(folder / "run") as part:
        part.write_bytes(b"whole")
    assert (folder / "run").read_bytes() == b"whole"
    return {what for what, name in names.items() if (folder / name).exists()}


@pytest.mark.skipif(os.name != "posix", reason="nothing is swept on Windows")
def test_what_a_killed_write_left_is_swept_by_the_next(tmp_path, monkeypatch):
    """Planted: nothing is swept; everything is swept, also what somebody is writing."""
    others = {"alive", "elsewhere", "another file", "a name like it"}
    assert left_behind(tmp_path, checkpoint.whole_file) == others
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_sweep", lambda path: None)
        assert left_behind(tmp_path, checkpoint.whole_file) == others | {"gone"}
    monkeypatch.setattr(checkpoint, "_is_gone", lambda process: True)
    assert "alive" not in left_behind(tmp_path, checkpoint.whole_file)


def test_the_killed_write_test_bites(tiny, tmp_path, monkeypatch):
    """Planted mistake: the file is written in place."""
    monkeypatch.setattr(checkpoint, "whole_file", contextlib.nullcontext)
    assert not survives_a_killed_write(tiny, tmp_path / "run.safetensors", monkeypatch)


# ---- interruptions -------------------------------------------------------------------------------


def usable(model):
    """In evaluation mode, on the CPU, laid out as a fresh model, without gradients."""
    tensors = list(model.parameters())
    return (
        not any(module.training for module in model.modules())
        and all(p.is_contiguous() and p.device.type == "cpu" and p.grad is None for p in tensors)
        and bool(torch.isfinite(model(torch.zeros(1, 3, 32, 32))).all())
    )


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_model_is_usable(tiny, kind):
    model, in_the_middle = small(), []

    def loss(outputs, labels):
        in_the_middle.append(usable(model))
        if len(in_the_middle) == 3:
            raise kind
        return F.cross_entropy(outputs, labels)

    with pytest.raises(kind):
        fine_tune(model, tiny, epochs=1, batch_size=8, progress=False, loss=loss)
    assert in_the_middle == [False] * 3  # what an interruption would leave without our care
    assert usable(model)
