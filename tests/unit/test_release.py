"""What a release says about itself: citation, changelog, security, and where these files go."""

import re
import subprocess
import sys
import tarfile
import tomllib

import pytest
import yaml

import medtl_utils
from tests.conftest import ROOT
from tests.unit.test_project import PICKLE

CITATION = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
FOR_TEACHERS = {"notebooks/TEACHING.md", "notebooks/classroom.py"}
PAPERS = {"CITATION.cff", "SECURITY.md", "CHANGELOG.md", "LICENSE", "LICENSE-docs"}


def faults_of_citation(text: str, version: str) -> list[str]:
    cited = yaml.safe_load(text)
    found = [
        f"no {field}"
        for field in ("cff-version", "message", "title", "authors", "license", "type")
        if not cited.get(field)
    ]
    if str(cited.get("version")) != version:
        found.append(f"version {cited.get('version')}, the package is {version}")
    title = re.search(r"^# (.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)[1]
    if cited.get("title") != title:
        found.append("another title than the README's")
    return found


@pytest.mark.check
def test_the_citation_names_this_version():
    assert faults_of_citation(CITATION, medtl_utils.__version__) == []
    assert faults_of_citation(CITATION, "9.9.9") == ["version 0.1.0, the package is 9.9.9".replace(
        "0.1.0", medtl_utils.__version__)]  # fmt: skip
    assert faults_of_citation(CITATION.replace("title: Tra", "name: Tra", 1), "9") != []


@pytest.mark.check
def test_the_licences_are_those_of_the_files():
    cited = yaml.safe_load(CITATION)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["license"] == [project["license"], "CC-BY-4.0"]
    holder = re.search(r"Copyright \(c\) \d+ (.+)", (ROOT / "LICENSE").read_text())[1]
    assert cited["authors"] == [{"name": holder}]


def faults_of_changelog(text: str) -> list[str]:
    versions = re.findall(r"^## (.+)$", text, re.M)
    found = [] if versions[:1] == ["[Unreleased]"] else ["[Unreleased] does not come first"]
    dated = re.compile(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d")
    found += [f"{v}: not [1.2.3] - 2026-01-31" for v in versions[1:] if not dated.fullmatch(v)]
    return found + [f"kind {k}" for k in re.findall(r"^### (.+)$", text, re.M) if k not in KINDS]


@pytest.mark.check
def test_the_changelog_keeps_its_form():
    assert faults_of_changelog(CHANGES) == []
    assert faults_of_changelog(CHANGES.replace("### Added", "### New"))
    assert faults_of_changelog(CHANGES.replace("[Unreleased]", "[1.0.0] - 2026-01-31"))
    assert faults_of_changelog(CHANGES + "\n## 1.0\n")


@pytest.mark.check
def test_security_names_every_pickle():
    """Those of the helper, SurvSet's, and torchvision's file; and it invents no address."""
    listed = re.findall(r"^\* (.+?):", SECURITY.split("## What is never")[0], re.M)
    assert set(PICKLE) == {"sources.py"} and listed == ['`"imagenet_lite0"`', '`"imagenet"`',
                                                        "Chapter 15c"]  # fmt: skip
    assert not re.search(r"\w@\w|https?:", SECURITY)


@pytest.mark.check
def test_the_wheel_carries_the_package_and_its_data_alone():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    assert wheel["packages"] == ["medtl_utils"]
    assert not {f.rpartition("/")[2] for f in wheel["force-include"]} & PAPERS


def test_the_source_archive_carries_what_a_teacher_needs(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert PAPERS | FOR_TEACHERS | {"Makefile", "constraints.txt", "data/NOTICE.md"} <= names
    unwanted = re.compile(r"(^|/)(wheelhouse|outputs|\.venv|__pycache__|\.pytest_cache)/|cache/")
    assert not [name for name in names if unwanted.search(name)]
    assert archive.stat().st_size < 80e6
