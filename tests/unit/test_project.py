"""Promises of the project as a whole: dependencies, commands, sizes, links."""

import ast
import hashlib
import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

import medtl_utils
from tests.conftest import ROOT

pytestmark = pytest.mark.check
CONDA_NAMES = {"pytorch": "torch"}
FUNCTION, FILE, COLUMNS = 50, 300, 100  # lines, lines, characters
LONGER_FILES = {"medtl_utils/phantom.py": 550}
DATA_IN_GIT = 80e6  # bytes


def differing(environment: str, project: dict) -> set[str]:
    """What environment.yml and pyproject.toml do not say alike: a package, or its bounds."""
    wanted = set(project["dependencies"]).union(*project["optional-dependencies"].values())
    listed = yaml.safe_load(environment)["dependencies"]
    flat = [d for d in listed if isinstance(d, str)] + next(
        d["pip"] for d in listed if isinstance(d, dict)
    )
    named = lambda d: re.match(r"[\w-]+", d)[0]
    conda = {CONDA_NAMES.get(named(d), named(d)) + d[len(named(d)) :] for d in flat}
    return (conda - {"pip", "make"}) ^ (wanted | {"python" + project["requires-python"]})


def test_environment_yml_equals_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "environment.yml").read_text()
    assert differing(text, project) == set()
    for old, new in (("numpy>=2,", "numpy>=1,"), ("  - scipy", "  - scipi"), ("3.11", "3.10")):
        assert len(differing(text.replace(old, new), project)) == 2, old
    assert differing(text.replace("  - make", "  - cmake"), project) == {"cmake"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_constraints_pin_every_dependency_within_its_bounds():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {name.lower().replace("_", "-"): version for name, version in pins().items()}
    for text in [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]:
        wanted = Requirement(text)
        name = wanted.name.lower()
        assert name in pinned, f"constraints.txt pins no {name}"
        assert wanted.specifier.contains(pinned[name]), f"{text}: {pinned[name]}"
    assert not [n for n in pinned if re.match("nvidia|cuda|triton", n)]
    assert not [v for v in pinned.values() if "+" in v]


def test_readme_names_the_commands_that_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for command in re.findall(r"^make ([\w-]+)", readme, re.M):
        assert re.search(rf"^{command}:", makefile, re.M), command
    assert {"run", "test", "lab"} <= set(re.findall(r"make ([\w-]+)", readme))
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_links_inside_the_repository_are_alive():
    import nbformat

    texts = {
        p: p.read_text()
        for p in [*ROOT.glob("*.md"), *ROOT.glob("data/*.md"), *ROOT.glob("notebooks/*.md")]
    }
    for path in ROOT.glob("notebooks/[0-9]*.ipynb"):
        texts[path] = "\n".join(
            c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown"
        )
    for path, text in texts.items():
        for alt, target in re.findall(r"(!?\[[^\]]*\])\(([^)\s]+)\)", text):
            assert not alt.startswith("![]"), f"{path.name}: an image without alt text"
            if re.match(r"https?:|mailto:", target):
                continue
            file, _, anchor = target.partition("#")
            goal = (path.parent / file) if file else path
            assert goal.exists(), f"{path.name} links to {target}"
            if anchor and goal.suffix == ".md":
                headings = {
                    re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-")
                    for h in re.findall(r"^#+ (.+)$", goal.read_text(), re.M)
                }
                assert f'id="{anchor}"' in goal.read_text() or anchor in headings, (
                    f"{path.name}: {target}"
                )


def too_large(path, root) -> list[str]:
    """The places of a Python file that break a rule of size."""
    name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
    lines, limit = text.splitlines(), LONGER_FILES.get(path.relative_to(root).as_posix(), FILE)
    found = [f"{name}: {len(lines)} lines, {limit} at most"] * (len(lines) > limit)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION:
                found.append(f"{name}:{node.lineno}: {node.name} has {length} lines")
    found += [
        f"{name}:{number}: {len(line)} columns"
        for number, line in enumerate(lines, 1)
        if len(line) > COLUMNS
    ]
    return found


def code_files() -> list:
    folders = [ROOT / name for name in ("medtl_utils", "studies", "tests")]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [*files, *sorted((ROOT / "notebooks").glob("*.py"))]


def test_no_function_file_or_line_is_too_long():
    found = [place for path in code_files() for place in too_large(path, ROOT)]
    assert found == [], "\n".join(["Make these smaller:", *found])


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.py", "x = 1\n" * 301, "a.py: 301 lines, 300 at most"),
        ("medtl_utils/phantom.py", "x = 1\n" * 551, "551 lines, 550 at most"),
        ("a.py", "class A:\n    def f(self):\n" + "        x = 1\n" * 50, "a.py:2: f has 51 lines"),
        ("a.py", f"x = '{'y' * 96}'\n", "a.py:1: 102 columns"),
    ],
)
def test_the_rules_of_size_bite(name, text, word, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert any(word in place for place in too_large(path, tmp_path))
    path.write_text("\n".join(text.splitlines()[:50]) if "columns" not in word else "x = 1\n")
    assert too_large(path, tmp_path) == []


def test_few_public_names():
    assert len(medtl_utils.__all__) <= 45


def tracked_bytes(root, folder: str) -> int:
    listed = ["git", "ls-files", folder]
    files = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout
    return sum((root / name).stat().st_size for name in files.split("\n") if name)


def test_data_in_git_are_small():
    assert tracked_bytes(ROOT, "data") <= DATA_IN_GIT


def test_the_count_of_bytes_bites(tmp_path):
    """Planted: a file that is added counts, one that is ignored does not."""
    (tmp_path / "data").mkdir()
    for name in ("kept", "ignored"):
        (tmp_path / "data" / name).write_bytes(bytes(1000))
    for command in (["init", "--quiet"], ["add", "data/kept"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert tracked_bytes(tmp_path, "data") == 1000


def test_import_loads_nothing_heavy():
    """A benchmark would be noisy; what costs time is named instead."""
    heavy = "torch torchvision sklearn matplotlib scipy medmnist"
    script = f"import sys, medtl_utils; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
        == "[]"
    )
    assert "load_task" in dir(medtl_utils)
    with pytest.raises(AttributeError, match="It has: .*load_task"):
        medtl_utils.load_tsk  # noqa: B018


def not_shown(names, sources: str) -> list[str]:
    """Public names that no code or prose of a notebook uses."""
    return [name for name in names if not re.search(rf"\b{name}\b", sources)]


def test_every_public_name_has_a_docstring_and_is_shown():
    books = [json.loads(p.read_text()) for p in ROOT.glob("notebooks/[0-9]*.ipynb")]
    sources = "\n".join("".join(c["source"]) for book in books for c in book["cells"])
    assert not_shown(medtl_utils.__all__, sources) == []
    assert not_shown(["load_task", "load_tusk"], sources) == ["load_tusk"]
    assert all(getattr(medtl_utils, name).__doc__ for name in medtl_utils.__all__)


# the one pickle that is read: ImageNet weights of a package, hashed first, weights only
PICKLE = {"sources.py": 'torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)'}


def test_no_pickle_is_loaded():
    for path in (ROOT / "medtl_utils").rglob("*.py"):
        source = path.read_text().replace(PICKLE.get(path.name, "\0"), "", 1)
        assert (
            "torch.load(" not in source
            and "import pickle" not in source
            and "allow_pickle=True" not in source
        ), path.name
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
                assert "allow_pickle=False" in ast.unparse(node), f"{path.name}: {node.lineno}"


def test_the_two_sample_numbers_are_the_tables():
    text = (ROOT / "data/README.md").read_text()
    for row in json.loads((ROOT / "data/results/real_or_simulated.json").read_text())["rows"]:
        if row["grey"] == "mean and SD alike":
            assert f"{row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in text, row


def test_the_source_model_is_the_one_its_card_describes():
    from medtl_utils.models import ULTRASOUND_FILE, ULTRASOUND_SHA256
    from studies import pretrain

    digest = hashlib.sha256((ROOT / "data" / ULTRASOUND_FILE).read_bytes()).hexdigest()
    card, made = (
        (ROOT / "data" / "MODEL_CARD.md").read_text(),
        json.loads((ROOT / "data" / "results" / "pretrain.json").read_text()),
    )
    assert digest == ULTRASOUND_SHA256 and digest in card
    assert (ROOT / "data" / "results" / "pretrain.md").read_text() == pretrain.card(made, digest)
    assert f"{made['images']:,} simulated" in card and f"{made['passes']:,} image passes" in card
    assert all(
        f"| {head} | {accuracy:.3f} |" in card for head, accuracy in made["accuracy"].items()
    )
