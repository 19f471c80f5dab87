"""Nothing is left over: functions that nobody calls, tables and pictures that nobody reads."""

import ast
import json
import re
import subprocess
from collections import Counter

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.check
BY_TOOLS = {  # called by a library: html.parser, Lightning, fastai
    "handle_starttag",
    *("configure_optimizers", "training_step", "validation_step", "after_step", "before_fit"),
}


def unused(sources: dict[str, str]) -> list[str]:
    """Functions, classes and constants whose name stands nowhere but in their own definition."""
    words = Counter(w for text in sources.values() for w in re.findall(r"[A-Za-z_]\w*", text))
    found = []
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text)) if path.endswith(".py") else ():
            name = getattr(node, "name", "")
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and words[name] == 1:
                own = [ast.unparse(d) for d in node.decorator_list]
                if not name.startswith(("test_", "__", "pytest_")) and not any(
                    "autouse=True" in d for d in own
                ):
                    found.append(f"{path}: {name}")
    return sorted(line for line in found if line.split(": ")[1] not in BY_TOOLS)


def tracked_sources() -> dict[str, str]:
    """Python files and the cells of notebooks that git holds."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    names = [n for n in listed.stdout.split() if n.endswith((".py", ".ipynb"))]
    texts = {n: (ROOT / n).read_text(encoding="utf-8") for n in names if (ROOT / n).is_file()}
    cells = lambda text: "\n".join("".join(c["source"]) for c in json.loads(text)["cells"])
    return {n: cells(t) if n.endswith(".ipynb") else t for n, t in texts.items()}


def test_no_function_is_left_over():
    sources = tracked_sources()
    assert unused(sources) == []
    name = "_".join(("nobody", "calls", "this"))  # whole, it would be used here
    planted = sources | {"studies/left_over.py": f"def {name}():\n    pass\n"}
    assert unused(planted) == [f"studies/left_over.py: {name}"]


def test_every_kept_table_and_picture_is_read():
    """By a notebook, a document or another study; what only its maker knows is left over."""
    texts = tracked_sources() | {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in ("README.md", "data/README.md", "data/MODEL_CARD.md")
    }
    for file in sorted((ROOT / "data" / "results").iterdir()):
        stem = re.compile(rf"\b{file.stem}\b")
        makers = {f"studies/{file.stem}.py"}
        readers = [n for n, t in texts.items() if n not in makers and stem.search(t)]
        assert [n for n in readers if not n.startswith("tests/")], file.name
