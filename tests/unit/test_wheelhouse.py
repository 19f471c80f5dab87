"""An installation without a network: `make wheelhouse`, and the two lines that install from it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT, run_offline
from tests.unit.test_project import pins

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEACHING = (ROOT / "notebooks" / "TEACHING.md").read_text(encoding="utf-8")
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")


def planned(*arguments: str) -> str:
    """What make would run, line breaks of the Makefile removed."""
    command = ["make", "--dry-run", "--always-make", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return re.sub(r"\\\n\s*", "", done.stdout)


def extras(text: str) -> set[str]:
    return set(re.search(r"'\.\[([\w,]+)\]'", text)[1].split(","))


def filling(*arguments: str) -> str:
    lines = planned("wheelhouse", *arguments).splitlines()
    return next(line for line in lines if "wheel-dir" in line)


@needs_make
@pytest.mark.check
def test_one_command_fills_the_folder():
    line = filling()
    assert " -m pip wheel " in line and "--wheel-dir wheelhouse" in line
    assert "-c constraints.txt" in line and "--wheel-dir stick" in filling("WHEELS=stick")
    assert extras(line) == set(PROJECT["optional-dependencies"]) - {"test"}
    wanted = {
        "pip",
        "editables",
        *(
            re.match(r"\w+", r)[0]
            for r in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"][
                "requires"
            ]
        ),
    }
    assert wanted <= set(line.split()), "an editable installation asks for these"


def parts_the_pair(plan: str, pinned: set[str]) -> list[str]:
    """Ways in which torch and torchvision could come from two builds."""
    found = [f"{name} is not pinned" for name in ("torch", "torchvision") if name not in pinned]
    if len(re.findall(r"pip (?:wheel|download)", plan)) != 1:
        found.append("more than one call fills the folder")
    found += re.findall(r"(?:extra-)?index-url \S+|pip (?:wheel|download) .*\btorch\S*", plan)
    return found


@needs_make
@pytest.mark.check
def test_torch_and_torchvision_stay_a_pair():
    plan, pinned = planned("wheelhouse"), set(pins())
    assert parts_the_pair(plan, pinned) == []
    planted = [plan + "pip wheel torch", plan.replace("pip wheel", "pip wheel torch")]
    planted.append(plan.replace("--wheel-dir", "--extra-index-url https://x.org/cpu --wheel-dir"))
    assert all(parts_the_pair(wrong, pinned) for wrong in planted)
    assert parts_the_pair(plan, pinned - {"torchvision"})


@needs_make
@pytest.mark.check
def test_offline_asks_no_index():
    for target in ("setup", "lab", "check"):
        installs = re.findall(r"-m pip install .*", planned(target, "OFFLINE=1", "WHEELS=stick"))
        assert installs and all("--no-index --find-links stick " in line for line in installs)
        assert "--no-index" not in planned(target)


@pytest.mark.check
def test_the_notes_give_the_two_lines_that_the_command_prints():
    makefile = re.sub(r"\\\n\s*", "", (ROOT / "Makefile").read_text())
    lines = re.search(r"```\n(python3 -m venv .venv)\n(.+--no-index.+)\n", TEACHING)
    listed = re.search(r"^EXTRAS := (.+)$", makefile, re.M)[1]
    printed = [line.strip() for line in re.findall(r'echo "  (.+?)"', makefile)]
    printed = [p.replace("$(WHEELS)", "wheelhouse").replace("$(EXTRAS)", listed) for p in printed]
    assert printed == list(lines.groups())
    assert "wheelhouse/" in (ROOT / ".gitignore").read_text().splitlines()


@needs_make
@pytest.mark.slow
def test_the_folder_is_enough_without_a_network(tmp_path):
    """The real thing: about 3.2 GB of wheels, then an installation with the network cut off."""
    copy, wheels = tmp_path / "course", tmp_path / "wheels"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
    command = ["make", "wheelhouse", f"WHEELS={wheels}", f"PYTHON={sys.executable}"]
    subprocess.run(command, cwd=copy, check=True)
    names = {file.name.split("-")[0] for file in wheels.iterdir()}
    assert {"torch", "torchvision", "medtl_utils", "pip", "hatchling", "editables"} <= names
    assert all(file.suffix == ".whl" for file in wheels.iterdir())
    shutil.rmtree(copy / ".venv")
    listed = re.search(r"^EXTRAS := (.+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    script = f"""set -e
        cd {copy}
        {sys.executable} -m venv .venv
        .venv/bin/python -m pip install -q --no-index --find-links {wheels} --editable '.[{listed}]'
        .venv/bin/python -m pip check
        .venv/bin/python -c 'import torchvision, medtl_utils as m; print(m.load_task("busi").name)'
    """
    free = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PYTHONPATH": ""}
    done = run_offline(["sh", "-c", script], **free)
    assert done.returncode == 0 and done.stdout.endswith("busi\n"), done.stdout + done.stderr
