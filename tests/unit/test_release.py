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
    version = medtl_utils.__version__
    assert faults_of_citation(CITATION, version) == []
    assert faults_of_citation(CITATION, "9.9.9") == [f"version {version}, the package is 9.9.9"]
    assert faults_of_citation(CITATION.replace("title: Tra", "name: Tra", 1), "9") != []


def expression(notice: str) -> str:
    """SPDX: MIT for the code, and what the rows of the notice name."""
    found = re.findall(r"\bCC (BY(?:-SA)?) (\d\.\d)", notice)
    return " AND ".join(["MIT", *sorted({f"CC-{kind}-{number}" for kind, number in found})])


@pytest.mark.check
def test_the_licences_are_those_of_the_files():
    cited = yaml.safe_load(CITATION)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    notice = (ROOT / "data" / "NOTICE.md").read_text(encoding="utf-8")
    assert project["license"] == expression(notice) == " AND ".join(cited["license"])
    assert expression(notice.replace("BY-SA", "BY")) != project["license"]
    assert f"`{project['license']}`" in (ROOT / "README.md").read_text(encoding="utf-8")
    holder = re.search(r"Copyright \(c\) \d+ (.+)", (ROOT / "LICENSE").read_text())[1]
    assert cited["authors"] == [{"name": holder}]


@pytest.mark.check
def test_the_version_stands_in_one_place():
    """The package says it; pyproject.toml reads it there; the papers of a release repeat it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"] and "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "medtl_utils/__init__.py"


def faults_of_changelog(text: str, version: str, day: str) -> list[str]:
    """[Unreleased] may come first; then this version with its day, and only known kinds."""
    versions = re.findall(r"^## (.+)$", text, re.M)
    versions = versions[versions[:1] == ["[Unreleased]"] :]
    dated = re.compile(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d")
    found = [f"{v}: not [1.2.3] - 2026-01-31" for v in versions if not dated.fullmatch(v)]
    if versions[:1] != [f"[{version}] - {day}"]:
        found.append(f"the newest is not {version} of {day}")
    if "in preparation" in text:
        found.append("something is in preparation")
    return found + [f"kind {k}" for k in re.findall(r"^### (.+)$", text, re.M) if k not in KINDS]


@pytest.mark.check
def test_the_changelog_names_this_version_and_its_day():
    this = medtl_utils.__version__, str(yaml.safe_load(CITATION)["date-released"])
    first = f"## [{this[0]}]"
    assert first in CHANGES and faults_of_changelog(CHANGES, *this) == []
    assert not faults_of_changelog(CHANGES.replace(first, f"## [Unreleased]\n\n{first}"), *this)
    assert faults_of_changelog(CHANGES.replace("### Added", "### New"), *this)
    assert faults_of_changelog(CHANGES.replace(first, "## [Unreleased]"), *this)
    assert faults_of_changelog(CHANGES.replace(first, "## [9.0.0]"), *this)
    assert faults_of_changelog(CHANGES, this[0], "2026-01-31")
    assert faults_of_changelog(CHANGES + "\n## 1.0\n", *this)


@pytest.mark.check
def test_security_names_every_pickle():
    """Those of the helper, SurvSet's, and torchvision's file; and it invents no address."""
    listed = re.findall(r"^\* (.+?):", SECURITY.split("## What is never")[0], re.M)
    assert set(PICKLE) == {"sources.py"} and listed == ['`"imagenet_lite0"`', '`"imagenet"`',
                                                        "Chapter 15c"]  # fmt: skip
    assert not re.search(r"\w@\w|https?:", SECURITY)
    supported = medtl_utils.__version__.rpartition(".")[0]
    assert f"| {supported} | yes |" in SECURITY


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
