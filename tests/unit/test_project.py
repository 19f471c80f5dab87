"""Promises of the project as a whole: dependencies, commands, budgets, links."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

import medtl_utils
from tests.conftest import ROOT

CONDA_NAMES = {"pytorch": "torch"}
# lines: what a reader of the helper reads; the widgets; the simulator and its training. Exercises grow by chapter.
BUDGETS = {
    ("data", "models", "training", "evaluation", "plots", "__init__"): 1350,
    ("widgets",): 600,
    ("phantom", "pretrain"): 800,
}


def test_environment_yml_equals_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = set(project["dependencies"]).union(*project["optional-dependencies"].values())
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    flat = [d for d in listed if isinstance(d, str)] + next(
        d["pip"] for d in listed if isinstance(d, dict)
    )
    named = lambda d: re.match(r"[\w-]+", d)[0]
    conda = {CONDA_NAMES.get(named(d), named(d)) + d[len(named(d)) :] for d in flat}
    assert conda - {"pip", "make"} == wanted | {"python" + project["requires-python"]}


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


def test_budgets():
    lines = lambda names: sum(
        len((ROOT / "medtl_utils" / f"{n}.py").read_text().splitlines())
        for n in names
        if (ROOT / "medtl_utils" / f"{n}.py").exists()
    )
    assert {names: lines(names) for names in BUDGETS if lines(names) > BUDGETS[names]} == {}
    assert lines(("exercises",)) <= 80 * len(list((ROOT / "notebooks").glob("[0-9]*.ipynb")))
    tracked = subprocess.run(
        ["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert sum((ROOT / f).stat().st_size for f in tracked) <= 60e6
    assert not any(f.endswith(".npz") for f in tracked)


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


def test_every_public_name_has_a_docstring_and_is_shown():
    texts = (
        "".join(p.read_text() for p in ROOT.glob("notebooks/*.ipynb"))
        + (ROOT / "data/results/make_breastmnist_evidence.py").read_text()
    )
    for name in medtl_utils.__all__:
        thing = getattr(medtl_utils, name)
        assert thing.__doc__, name
        assert name in texts or name in {
            "DataError",
            "check_disjoint",
            "find_twins",
            "set_batchnorm",
            "best_device",
        }, f"{name} is in no notebook"


def test_no_pickle_is_loaded():
    for path in (ROOT / "medtl_utils").glob("*.py"):
        source = path.read_text()
        assert (
            "torch.load(" not in source
            and "import pickle" not in source
            and "allow_pickle=True" not in source
        ), path.name
        for call in re.findall(r"np\.load\([^)]*\)", source):
            assert "allow_pickle=False" in call, f"{path.name}: {call}"


def test_headline_numbers_are_the_tables():
    """README and model card quote data/results/breastmnist_evidence.json, every AUC and gain, to the last digit."""
    import json

    texts = [(ROOT / f).read_text().replace("−", "-") for f in ("README.md", "data/MODEL_CARD.md")]
    table = json.loads((ROOT / "data/results/breastmnist_evidence.json").read_text())
    for row in table["summary"]:
        if row["metric"] == "auc" and row["source"] == "simulated ultrasound":
            assert all(
                f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})" in text
                for text in texts
            ), row
    for row in table["differences"]:
        if (row["arm"], row["metric"], row["test"]) == (
            table["headline"],
            "auc",
            "twin-free",
        ):  # scratch, control, peer
            assert all(
                f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})" in text
                for text in texts
            ), row
    for row in table["levels"]:
        if row["metric"] == "auc":
            assert f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in texts[1], row


def test_the_two_sample_numbers_are_the_tables():
    import json

    text = (ROOT / "data/README.md").read_text()
    for row in json.loads((ROOT / "data/results/real_or_simulated.json").read_text())["rows"]:
        if row["grey"] == "mean and SD alike":
            assert f"{row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in text, row


def test_the_source_model_is_the_one_its_card_describes():
    import hashlib
    import json

    from studies import pretrain
    from medtl_utils.models import ULTRASOUND_FILE, ULTRASOUND_SHA256

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
