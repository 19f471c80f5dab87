"""Every notebook, unchanged, under strict nbval with the network cut off; its copy cell alone; its exercises; its loop."""

import ast
import importlib
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

from medtl_utils import training
from medtl_utils.exercises import EXERCISES, check
from medtl_utils.models import replace_head, source_model
from tests.conftest import ROOT, nbval, run_offline

NOTEBOOKS = [
    *sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")),
    ROOT / "notebooks" / "template.ipynb",
]


def read(path):
    return nbformat.read(path, 4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_and_prints_what_is_committed(path):
    done = nbval(path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_nbval_bites(tmp_path):
    """A planted wrong output and a planted error are both found."""
    for source, output in (("print(1 + 1)", "3\n"), ("raise ValueError('x')", "")):
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source, execution_count=1)]
        )
        if output:
            notebook.cells[0].outputs = [
                nbformat.v4.new_output("stream", name="stdout", text=output)
            ]
        nbformat.write(notebook, tmp_path / "bad.ipynb")
        assert nbval(tmp_path / "bad.ipynb").returncode != 0


def test_network_is_cut():
    script = "import urllib.request; urllib.request.urlopen('http://192.0.2.1', timeout=3)"
    done = run_offline([sys.executable, "-c", script])
    assert done.returncode != 0 and (
        "without a network" in done.stderr or "unreachable" in done.stderr
    )


def runs_alone(source: str, folder) -> subprocess.CompletedProcess:
    """A cell in an empty namespace and an empty folder, without a network; a warning counts as an error."""
    return run_offline(
        [
            sys.executable,
            "-W",
            "error::UserWarning",
            "-c",
            f"import os; os.chdir({str(folder)!r})\n{source}",
        ]
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_copy_cell_runs_alone(path, tmp_path):
    cells = [c.source for c in read(path).cells if "copy" in c.metadata.get("tags", [])]
    assert len(cells) == 1
    done = runs_alone(cells[0], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "planted",
    ["print(task)", "open('../data/README.md')", "import warnings; warnings.warn('old')", "1 / 0"],
)
def test_the_copy_check_bites(planted, tmp_path):
    """A name from another cell, a file beside the notebook, a warning, an error."""
    assert runs_alone(planted, tmp_path).returncode != 0


# ---- exercises ------------------------------------------------------------------------------------------------------------


def solutions() -> dict[str, str]:
    found = {}
    for path in NOTEBOOKS:
        text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
        found |= dict(
            re.findall(r"<summary>Solution ([\d.]+)</summary>\s*```python\n(.*?)```", text, re.S)
        )
    return found


def said(name, answer, capsys) -> str:
    check(name, answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", EXERCISES)
def test_solution_passes_and_empty_answer_gets_the_hint(name, capsys):
    namespace = {"torch": torch, "np": np}
    exec(solutions()[name], namespace)
    assert said(name, namespace["answer"], capsys) == f"Exercise {name}: correct.\n"
    assert "not answered yet. Hint:" in said(name, ..., capsys)


def softmax_twice(model, images):
    with torch.no_grad():
        return model.eval()(images).softmax(1).softmax(1)[:, 1]


MISTAKES = {
    "0.1": [
        ("Parkinson detection", "receives"),
        ("both", "roles"),
        ("speech", "not the kind"),
        (1, "Hint"),
    ],
    "0.2": [("yes", "luck"), ("no", "not evidence"), ("A", "luck"), (0.02, "Hint")],
    "0.3": [(20, "too good"), (1, "after choosing"), (19, "every look"), ("none", "Hint")],
    "5.1": [
        (1024, "biases"),
        (513, "one output"),
        (11_177_538, "whole network"),
        ([1], "Hint"),
        (7, "Hint"),
    ],
    "5.2": [
        ("weights", "does stop"),
        ("Nothing", "running_mean"),
        ("both", "does stop"),
        (3, "Hint"),
    ],
    "5.3": [
        (lambda m, x: m.eval()(x)[:, 1], "logits"),
        (lambda m, x: m.eval()(x).softmax(1), "column"),
        (lambda m, x: m.eval()(x).softmax(1)[:, 0], "class 0"),
        (lambda m, x: m.eval()(x).softmax(0)[:, 1], "over the images"),
        (lambda m, x: m.train()(x).softmax(1)[:, 1], "evaluation mode"),
        (lambda m, x: m.eval()(x).softmax(1)[:, 1], "no_grad"),
        (softmax_twice, "twice"),
        (lambda m, x: m.eval()(x).softmax(1)[:, 1].mean(), "shape"),
        (lambda m, x: [0.5] * 7, "tensor"),
        (lambda m, x: undefined, "NameError"),  # noqa: F821
        (0.5, "function"),
    ],
    "5.4": [("yes", "includes zero"), ("No", "no evidence"), ("maybe", "Hint")],
}
for path in sorted(
    (ROOT / "tests").glob("test_notebook_[0-9]*.py")
):  # each chapter's tests hold its own mistakes
    MISTAKES |= importlib.import_module(f"tests.{path.stem}").MISTAKES


def unnamed_mistakes(name, capsys) -> list:
    """The mistakes that a check accepts, or answers without the word that names them."""
    texts = [(answer, word, said(name, answer, capsys)) for answer, word in MISTAKES[name]]
    return [answer for answer, word, text in texts if word not in text or "correct" in text]


@pytest.mark.parametrize("name", EXERCISES)
def test_typical_mistakes_get_the_message_that_names_them(name, capsys):
    assert len(MISTAKES[name]) >= 3
    assert unnamed_mistakes(name, capsys) == []


@pytest.mark.parametrize("name", EXERCISES)
def test_the_exercise_check_bites(name, capsys, monkeypatch):
    """Planted: a check that accepts everything, and one that only says no."""
    hint = EXERCISES[name][0]
    monkeypatch.setitem(EXERCISES, name, (hint, {}, lambda answer: None))
    assert len(unnamed_mistakes(name, capsys)) == len(MISTAKES[name])
    monkeypatch.setitem(EXERCISES, name, (hint, {}, lambda answer: "wrong."))
    assert len(unnamed_mistakes(name, capsys)) == len(MISTAKES[name])


def test_unknown_exercise():
    with pytest.raises(ValueError, match="There are: 0.1"):
        check("99", 1)


# ---- notebook 05: what is built in sight equals the helper ------------------------------------------------------------------


def function_from(path, name):
    """A function or class defined in a notebook, as an object."""
    for cell in read(path).cells:
        if cell.cell_type == "code" and f" {name}(" in cell.source:
            for node in ast.parse(cell.source).body:
                if getattr(node, "name", None) == name:
                    namespace = {"nn": nn, "torch": torch, "Dataset": object}
                    exec(ast.unparse(node), namespace)
                    return namespace[name]
    raise AssertionError(f"{path.name} defines no {name}")


def loop_equals_helper(tiny_task, monkeypatch, optimizer_class=torch.optim.AdamW) -> bool:
    """One epoch of the notebook's loop and one of fine_tune, on the same batches, end in the same weights."""
    monkeypatch.setattr(training, "native_bfloat16", lambda: False)
    train_one_epoch = function_from(
        ROOT / "notebooks" / "05_fine_tune_resnet.ipynb", "train_one_epoch"
    )
    dataset = function_from(ROOT / "notebooks" / "05_fine_tune_resnet.ipynb", "TumourDataset")
    models = []  # the helper's, the notebook's, and one that stays as it was
    for _ in range(3):
        torch.manual_seed(0)
        models.append(replace_head(source_model("random"), 2))
    history = training.fine_tune(
        models[0], tiny_task, epochs=1, lr=1e-3, batch_size=8, augmented=False, progress=False
    )
    norm = models[1].normalisation
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (norm.mean, norm.std))
    items = dataset(tiny_task.train, mean, std)
    torch.manual_seed(1_000_003)
    batches = [
        [torch.stack(t) for t in zip(*((x, y) for x, y in map(items.__getitem__, index.tolist())))]
        for index in torch.randperm(24).split(8)
    ]
    optimizer = optimizer_class(models[1].parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=3)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    loss = train_one_epoch(models[1], batches, optimizer)
    helper, notebook, start = (
        torch.cat([p.flatten() for p in m.parameters()]).detach() for m in models
    )
    apart = (helper - notebook).norm() / (
        helper - start
    ).norm()  # Adam magnifies rounding where a gradient is nearly 0
    return abs(loss - history["train_loss"][0]) < 0.02 and float(apart) < 0.1


def test_the_notebooks_loop_is_the_helpers(tiny_task, monkeypatch):
    assert loop_equals_helper(tiny_task, monkeypatch)


def test_the_loop_test_bites(tiny_task, monkeypatch):
    """Planted mistake: another optimiser."""
    assert not loop_equals_helper(tiny_task, monkeypatch, torch.optim.SGD)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_second_processor_profile(path):
    """AVX2 only, one thread, no bfloat16: the compared outputs still hold."""
    done = nbval(
        path,
        ATEN_CPU_CAPABILITY="avx2",
        ONEDNN_MAX_CPU_ISA="AVX2",
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.real_data
def test_make_run_on_real_images():
    done = subprocess.run(
        ["make", "run", "TASK=breastmnist"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Test set opened 1 time(s)" in done.stdout, (
        done.stdout[-3000:] + done.stderr[-3000:]
    )
