"""Nothing is lost: kills, a full disk, Ctrl-C."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from medtl_utils import checkpoint, fine_tune
from tests import kills
from tests.conftest import ROOT, make_split
from tests.kills import EPOCHS, small
from tests.unit.test_checkpoint import usable

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks as on Linux and macOS")


def killed(folder, n, seed, *planted) -> dict:
    command = [sys.executable, "-m", "tests.kills", str(folder), str(n), str(seed), *planted]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("n", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_bit_for_bit(tmp_path, n):
    told = killed(tmp_path, n, seed=n)
    assert told["kills"] == n and told["in a write"] >= n // 2
    assert told["trainings"] == told["equal"] >= 1


def test_a_file_written_in_place_is_found(tmp_path):
    """Planted mistake: half a checkpoint, which the next run cannot read."""
    assert killed(tmp_path, 8, 1, "planted")["error"] == 1


# ---- a full disk ---------------------------------------------------------------------------------


def run(path, **more):
    task = SimpleNamespace(train=make_split("train"), val=make_split("val", 12, seed=1))
    model = small()
    arguments = {"epochs": EPOCHS, "batch_size": 8, "progress": False, "checkpoint": path} | more
    return model, lambda: fine_tune(model, task, **arguments)


FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    SafetensorError("Error while serializing: IoError(Os { code: 28, kind: StorageFull })"),
    PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
]


@pytest.mark.parametrize("error", FULL)
def test_a_disk_that_fills(tmp_path, monkeypatch, error):
    path, real = tmp_path / "run.safetensors", checkpoint.save_file
    writes = []

    def fills(tensors, part, metadata):
        writes.append(part)
        part.write_bytes(b"half of it")
        if len(writes) == 3:
            raise error
        real(tensors, part, metadata)

    model, train = run(path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", fills)
        with pytest.raises(OSError, match=r"run\.safetensors could not be written .*make room"):
            train()
    assert usable(model) and os.listdir(tmp_path) == ["run.safetensors"]
    assert len(checkpoint._read(path)[1]["train_loss"]) == 2  # that of the epoch before
    resumed, go_on = run(path)
    whole, train = run(None)
    assert go_on() == train()
    assert all(map(torch.equal, resumed.state_dict().values(), whole.state_dict().values()))


SMALL_DISK = """
import sys
from pathlib import Path
from tests.unit.test_kills import run
from medtl_utils import checkpoint
model, train = run(Path(sys.argv[1]) / "run.safetensors", epochs=2)
try:
    train()
except OSError as error:
    print(error)
print(sorted(p.name for p in Path(sys.argv[1]).iterdir()))
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="small disks are made with unshare")
@pytest.mark.parametrize("kilobytes, fits", [(200, False), (20_000, True)])
def test_a_disk_that_is_full(tmp_path, kilobytes, fits):
    mount = f'mount -t tmpfs -o size={kilobytes}k tmpfs {tmp_path} && exec "$@"'
    cut = ["unshare", "-rm", "sh", "-c", mount, "sh"]
    if subprocess.run([*cut, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    command = [*cut, sys.executable, "-c", SMALL_DISK, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("could not be written" in done.stdout) is not fits
    assert done.stdout.strip().endswith("['run.safetensors']" if fits else "[]")


# ---- Ctrl-C --------------------------------------------------------------------------------------


def train_until_interrupted(path, told) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model, train = run(path, epochs=500)
    try:
        train()
    except KeyboardInterrupt:
        done = len(checkpoint._read(path)[1]["train_loss"])
        told.write_text(f"{usable(model)} {done}")


def interrupted(folder, number) -> None:
    path, told = folder / f"{number}.safetensors", folder / f"{number}.txt"
    child = kills.forked(train_until_interrupted, path, told)
    end = time.perf_counter() + 60
    while not path.is_file() and time.perf_counter() < end:
        time.sleep(0.01)
    time.sleep(0.05 * number)
    os.kill(child, signal.SIGINT)
    assert kills.wait(child) == 0
    good, epochs = told.read_text().split()
    assert good == "True" and 1 <= int(epochs) < 500
    assert load_file(path) and not list(folder.glob("*.part"))


def test_ctrl_c_leaves_a_usable_model_and_a_checkpoint(tmp_path):
    """At three moments; the real signal. A process of its own forks: this one has threads."""
    script = "import sys; from pathlib import Path; from tests.unit.test_kills import interrupted\n"
    script += "for number in range(3): interrupted(Path(sys.argv[1]), number)"
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.txt"))) == 3
