"""What several test files share."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medtl_utils.data import Split, Task

ROOT = Path(__file__).resolve().parents[1]
BREAST = ROOT / "data" / "breastmnist.npz"


def pytest_collection_modifyitems(items):
    """Slow tests run in `make test-slow` only; real-data tests say why when they are skipped."""
    for item in items:
        if "real_data" in item.keywords and not BREAST.is_file():
            item.add_marker(
                pytest.mark.skip(
                    reason="data/breastmnist.npz is not there: make run TASK=breastmnist downloads it"
                )
            )


def run_offline(
    command: list[str], timeout: int = 1800, **environment: str
) -> subprocess.CompletedProcess:
    """Run a command without a network: in its own network namespace where that is allowed, and with Python's sockets cut."""
    cut = ["unshare", "-rn", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    if not (
        shutil.which("unshare")
        and shutil.which("ip")
        and subprocess.run([*cut, "true"], capture_output=True).returncode == 0
    ):
        cut = []
    threads = {
        k: os.environ.get(k, "2")
        for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    env = {**os.environ, **threads, "PYTHONPATH": str(ROOT / "tests" / "offline"), **environment}
    return subprocess.run(
        [*cut, *command], capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=env
    )


def nbval(notebook: Path, **environment: str) -> subprocess.CompletedProcess:
    """One notebook under strict nbval, offline."""
    options = [
        "--nbval",
        "--nbval-sanitize-with",
        str(ROOT / "tests" / "nbval_sanitize.cfg"),
        "--nbval-cell-timeout",
        "1800",
    ]
    quiet = [
        "-p",
        "tests.nbval_patience",
        "-p",
        "no:cacheprovider",
        "--override-ini",
        "addopts=-q",
        "--tb=short",
    ]
    return run_offline(
        [sys.executable, "-m", "pytest", *options, *quiet, str(notebook)], **environment
    )


def make_split(
    name="train", n=24, patients=None, seed=0, size=32, classes=("benign", "malignant"), positive=1
) -> Split:
    """A tiny split whose classes differ in brightness, so that a network can learn it in a few steps."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(np.arange(n) % len(classes))
    images = (
        torch.from_numpy(rng.integers(0, 100, (n, 1, size, size)).astype(np.uint8))
        + (labels * 60).to(torch.uint8)[:, None, None, None]
    )
    people = np.array([f"{name}-{i}" for i in range(n)]) if patients is None else patients
    return Split(name, images, labels, classes, positive, people)


@pytest.fixture
def tiny_task() -> Task:
    return Task(
        "tiny",
        make_split("train"),
        make_split("val", 12, seed=1),
        "a card",
        make_split("test", 16, seed=2),
    )


@pytest.fixture(autouse=True)
def private_output_folder(tmp_path, monkeypatch):
    """Tests do not write into the repository's outputs/."""
    monkeypatch.setattr("medtl_utils.data.output_folder", lambda: tmp_path / "outputs")


@pytest.fixture
def shown(monkeypatch) -> list:
    """What a widget displays, in place of a browser."""
    pages = []
    monkeypatch.setattr("IPython.display.display", lambda thing, raw=False: pages.append(thing))
    return pages


def picture(box) -> str:
    """The HTML that a widget shows at the moment: figure and caption, or an error's words."""
    return box.children[-1].value
