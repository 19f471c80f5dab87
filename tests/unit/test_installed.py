"""What a release uploads: built, checked, installed into an empty environment, used offline.

`make test-slow`; it needs a package index. About 3 GB are fetched where pip's cache lacks them, or
the folder that `make wheelhouse` fills. On the oldest Python the versions of constraints.txt (or of
the file that CONSTRAINTS names), on the newest one the newest versions that fit.
"""

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import medtl_utils
from tests.conftest import ROOT, run_offline

slow, check = pytest.mark.slow, pytest.mark.check
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OLDEST = tuple(map(int, re.search(r">=(\d+)\.(\d+)", PROJECT["requires-python"]).groups()))
README = (ROOT / "README.md").read_text(encoding="utf-8")
TWINE = "twine>=6.1,<8"  # the first that knows licence expressions
JOB = """
import sys
import medtl_utils
from medtl_utils import evaluate, fine_tune, load_task, predict, replace_head, source_model
task = load_task("busi", size=32, n_train=60)
model = replace_head(source_model("ultrasound"), 2)
fine_tune(model, task, epochs=1, progress=False)
test = task.open_test("the installed wheel")
low, high = evaluate(predict(model, test), test, n_boot=50)["auc"][1:]
print(sys.version_info[:2], medtl_utils.__version__, medtl_utils.__file__, len(test), low <= high)
"""


def interpreters() -> dict[tuple[int, int], str]:
    """Version -> command, of those that can make an environment: this one, the PATH's, pyenv's."""
    found = {sys.version_info[:2]: sys.executable}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")
    for folder in [*os.get_exec_path(), *map(str, sorted(pyenv, reverse=True))]:
        for minor in range(OLDEST[1], 30):
            command = shutil.which(f"python3.{minor}", path=folder)
            if command and (3, minor) not in found:
                can = [command, "-c", "import venv, ensurepip"]
                if subprocess.run(can, capture_output=True).returncode == 0:
                    found[3, minor] = command
    return found


def chosen(which: str, here: dict[tuple[int, int], str]) -> str:
    """The command of the oldest Python that is supported, or of the newest; else a skip."""
    if which == "oldest" and OLDEST not in here:
        pytest.skip(f"no Python {OLDEST[0]}.{OLDEST[1]} on PATH or in pyenv: install it")
    if which == "newest" and max(here) == OLDEST:
        pytest.skip(
            f"no Python newer than {OLDEST[0]}.{OLDEST[1]} on PATH or in pyenv: install one"
        )
    return here[OLDEST if which == "oldest" else max(here)]


def run(*command, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(folder: Path, command: str) -> Path:
    run(command, "-m", "venv", folder, cwd=folder.parent)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source archive, and the wheel that is built from it, as pip does."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    shutil.rmtree(folder / "source")
    return folder


def described(wheel: Path) -> tuple[email.message.Message, list[str]]:
    """Metadata of a wheel, and its licence files."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = (n for n in file.namelist() if n.endswith(".dist-info/METADATA"))
        licences = [n.partition("/licenses/")[2] for n in file.namelist() if "/licenses/" in n]
        return email.message_from_bytes(file.read(name)), licences


@slow
def test_the_wheel_says_its_version_and_licences(built):
    (wheel,) = built.glob("*.whl")
    said, licences = described(wheel)
    assert said["Version"] == medtl_utils.__version__
    assert said["License-Expression"] == PROJECT["license"]
    wanted = {"LICENSE", "LICENSE-docs", "data/NOTICE.md"}
    assert set(said.get_all("License-File")) == set(licences) == wanted
    assert said["Requires-Python"] == f">={OLDEST[0]}.{OLDEST[1]}"


@slow
def test_twine_finds_no_fault(built, tmp_path):
    """Planted: a wheel whose description is no reStructuredText, which it says it is."""
    python = environment(tmp_path / "twine", sys.executable)
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", TWINE, cwd=tmp_path)
    archives = [*built.glob("*.whl"), *built.glob("*.tar.gz")]
    said = run(python, "-m", "twine", "check", "--strict", *archives, cwd=tmp_path)
    assert len(archives) == 2 and said.count("PASSED") == 2, said
    planted = tmp_path / archives[0].name
    with zipfile.ZipFile(archives[0]) as old, zipfile.ZipFile(planted, "w") as new:
        for name in (n for n in old.namelist() if ".dist-info/" in n):
            new.writestr(name, old.read(name).replace(b"text/markdown", b"text/x-rst"))
    checked = [python, "-m", "twine", "check", "--strict", planted]
    assert subprocess.run(checked, capture_output=True).returncode != 0


def install(python: Path, wheel: Path, pinned: bool, cwd: Path) -> None:
    """The wheel and what it asks for, out of pip's cache or a filled wheelhouse where there is."""
    options, wheels = ["--quiet", "--no-compile"], ROOT / os.environ.get("WHEELS", "wheelhouse")
    if wheels.is_dir():
        options += ["--find-links", wheels]
    if pinned:
        options += ["-c", ROOT / os.environ.get("CONSTRAINTS", "constraints.txt")]
    run(python, "-m", "pip", "install", *options, wheel, cwd=cwd)
    run(python, "-m", "pip", "check", cwd=cwd)


@slow
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_wheel_works_in_an_empty_environment(which, built, tmp_path):
    command = chosen(which, interpreters())
    (wheel,) = built.glob("*.whl")
    python = environment(tmp_path / "empty", command)
    install(python, wheel, which == "oldest", tmp_path)
    script = 'cd "$1"; shift; exec "$@"'  # away from this checkout
    homes = {"HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run_offline(["sh", "-c", script, "sh", str(tmp_path), str(python), "-c", JOB], **homes)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.strip().splitlines()[-1]
    assert f" {medtl_utils.__version__} {tmp_path / 'empty'}" in said and said.endswith("156 True")
    assert run_colab_cell(python, tmp_path) == [str(tmp_path / "course" / "data")] * 2


def colab_cell() -> str:
    (cell,) = re.findall(r"```python\n(ADDRESS = .+?)```", README, re.S)
    return cell


def run_colab_cell(python: Path, folder: Path) -> list[str]:
    """Where the data of the package lie after the README's cell; its extras are left out.

    What a notebook of Colab would run, run by IPython: with the address of this checkout.
    """
    (folder / "ipython").mkdir()
    quiet = ["--colors=NoColor", f"--ipython-dir={folder / 'ipython'}"]
    cell = re.sub(r'"course\[[\w,]+\]"', "course", colab_cell())
    cell = cell.replace("https://...", f"file://{ROOT}")
    cell += "import medtl_utils\nfrom pathlib import Path\nprint(medtl_utils.data_folder())\n"
    cell += "print(Path(medtl_utils.__file__).resolve().parents[1] / 'data')\n"
    said = run(python, "-m", "IPython", *quiet, "-c", cell, cwd=folder)
    return said.splitlines()[-2:]


@check
def test_the_cell_for_colab_names_every_extra():
    """It is Python with IPython's commands, and says in both READMEs that nobody tried it there."""
    from IPython.core.inputtransformer2 import TransformerManager

    cell = colab_cell()
    ast.parse(TransformerManager().transform_cell(cell))
    named = set(re.search(r"course\[([\w,]+)\]", cell)[1].split(","))
    assert named == set(PROJECT["optional-dependencies"]) - {"test"}
    assert "not tried there" in README
    for text in (README, (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")):
        assert not re.search(r"!\[[^\]]*\]\(https?:", text), "a badge says what nobody checks here"


@check
def test_a_missing_python_is_named():
    """Skipped, with the version that is missing; never taken for another one."""
    here = {OLDEST: "old", (3, 99): "new"}
    assert (chosen("oldest", here), chosen("newest", here)) == ("old", "new")
    for which, has in (("oldest", (3, 99)), ("newest", OLDEST)):
        with pytest.raises(pytest.skip.Exception, match=r"Python (newer than )?3\.11 on"):
            chosen(which, {has: "it"})
