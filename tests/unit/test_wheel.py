"""The built wheel, in an environment and a folder of its own, runs the README's example."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from medtl_utils.datasets import shipped
from tests.conftest import ROOT, THREADS

WHEEL = 45e6  # bytes


def run(*command, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=env
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder: its size and when it was changed."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): (f.stat().st_size, f.stat().st_mtime_ns) for f in files}


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in before | after if before.get(name) != after.get(name)}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    """A virtual environment with the wheel alone; what it depends on is lent by this one."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", wheel, cwd=folder)
    site = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    ).strip()
    # a path in a .pth file is searched, but .pth files in it are not read: no editable install
    (Path(site) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def small_example() -> str:
    """The README's example, with few images and one epoch."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(from medtl_utils import load_task.*?)```", text, re.DOTALL)
    assert len(blocks) == 1, "the README holds one example of the helper"
    code, times = re.subn(
        r'load_task\("\w+".*?\)', 'load_task("phantom", size=32, n_train=60)', blocks[0]
    )
    assert times == 1
    code, times = re.subn(r"fine_tune\((\w+), (\w+).*?\)", r"fine_tune(\1, \2, epochs=1)", code)
    assert times == 1
    return code


@pytest.fixture
def homeless(tmp_path) -> tuple[Path, Path, dict[str, str]]:
    """An empty home, an empty folder to work in, and an environment without a network."""
    home, empty = tmp_path / "home", tmp_path / "empty"
    home.mkdir()
    empty.mkdir()
    mine = ("MEDTL_OUTPUT", "MEDTL_LEDGER", "PYTHONPATH", "VIRTUAL_ENV")
    env = {k: v for k, v in os.environ.items() if k not in mine} | THREADS
    env |= {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home / "local")}
    env |= {f"XDG_{k}_HOME": str(home / k.lower()) for k in ("CACHE", "DATA", "STATE", "CONFIG")}
    return home, empty, env | {"PYTHONPATH": str(ROOT / "tests" / "offline")}  # cuts the network


def test_the_readmes_example_runs_from_the_wheel(fresh, homeless):
    home, empty, env = homeless
    before = listing(fresh.parents[1])
    code = "import medtl_utils\nprint(medtl_utils.__file__)\n" + small_example()
    said = run(fresh, "-c", code, cwd=empty, env=env)
    assert Path(said.splitlines()[0]).is_relative_to(fresh.parents[1]), said
    assert "'auc': (" in said, said
    assert changed(before, listing(fresh.parents[1])) == set(), "written into the installed package"
    assert list(empty.iterdir()) == []
    made = {file.name: file.parent for file in home.rglob("*") if file.is_file()}
    caches = {folder for name, folder in made.items() if name.startswith("phantom_v2_")}
    assert len(caches) == 1 and "test_openings.jsonl" in made
    if sys.platform == "linux":
        assert caches == {home / "cache" / "medtl_utils"}
        assert made["test_openings.jsonl"] == home / "state" / "medtl_utils"


REAL = """
from medtl_utils import load_task
from medtl_utils.datasets.breast_lesions_usg import load_breast_descriptors
for name in ("busi", "breastmnist", "retinamnist"):
    task = load_task(name, size=32)
    print(name, len(task.train), len(task.val), len(task.open_test("a try")), task.positive)
print(load_task("busi", n_train=50).train.masks.shape[1:], len(load_breast_descriptors()["age"]))
"""


def test_real_data_are_loaded_from_the_wheel(fresh, homeless):
    home, empty, env = homeless
    before = listing(fresh.parents[1])
    said = run(fresh, "-c", REAL, cwd=empty, env=env).splitlines()
    assert said == [
        "busi 468 156 156 1",
        "breastmnist 546 78 156 0",
        "retinamnist 1080 120 400 None",
        "torch.Size([64, 64]) 256",
    ]
    assert changed(before, listing(fresh.parents[1])) == set(), "written into the installed package"
    assert list(empty.iterdir()) == []
    files = {file.name for file in home.rglob("*") if file.is_file()}
    assert "test_openings.jsonl" in files and not [f for f in files if f.endswith(".npz")]


def test_the_wheel_carries_every_data_file_and_its_notice(fresh):
    data = next(fresh.parents[1].glob("**/medtl_utils/data"))
    carried = {file.name for file in data.iterdir()}
    weights = {"ultrasound_resnet18.safetensors"}
    assert carried == set(shipped.SHA256) | {"NOTICE.md"} | weights
    (wheel,) = fresh.parents[2].glob("*.whl")
    assert wheel.stat().st_size < WHEEL


def test_a_written_file_would_be_seen(tmp_path):
    for name in ("kept", "edited", "gone"):
        (tmp_path / name).write_text(name)
    before = listing(tmp_path)
    (tmp_path / "edited").write_text("other")
    (tmp_path / "gone").unlink()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "new").write_text("")
    seen = changed(before, listing(tmp_path))
    assert seen == {"edited", "gone", str(Path("cache") / "new")}
