"""Every notebook, unchanged, under strict nbval without a network; its copy cell alone; its loop.

Each notebook is executed once, two at a time, while the other tests go on (see `background`).
"""

import ast
import subprocess
import sys

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output
from torch import nn

from medtl_utils import training
from medtl_utils.models import replace_head, source_model
from tests.chapters.reading_rules import is_deep
from tests.conftest import ROOT, nbval, own_folders, run_offline

NOTEBOOKS = [
    *sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")),
    ROOT / "notebooks" / "template.ipynb",
]


def read(path):
    return nbformat.read(path, 4)


def in_folders_of_its_own(path, folder) -> subprocess.CompletedProcess:
    return nbval(path, **own_folders(folder))


@pytest.mark.in_background(job=in_folders_of_its_own)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_and_prints_what_is_committed(path, done):
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize(
    ("source", "stored", "passes"),
    [
        ("print(1 + 1)", "2\n", True),
        ("print(1 + 1)", "3\n", False),
        ("print(0.97, '-0.010')", "0.96 -0.009\n", True),  # another processor's rounding
        ("print(0.97)", "0.95\n", False),
        ("print(0.97)", "0.970\n", False),
        ("print('9 of 0.97')", "8 of 0.97\n", False),
        ("raise ValueError('x')", "", False),
        ("import os; print(os.environ['MEDTL_OUTPUT'] + '/a.txt')", "outputs/a.txt\n", True),
        ("import os; print(os.environ['MEDTL_OUTPUT'] + '/a.txt')", "outputs/b.txt\n", False),
        ("import os; print(os.environ['OMP_NUM_THREADS'])", "1\n", True),
    ],
)
def test_nbval_bites(source, stored, passes, tmp_path):
    """A wrong output and an error are found; where the folder of outputs lies is not compared."""
    outputs = [new_output("stream", name="stdout", text=stored)] if stored else []
    notebook = new_notebook(cells=[new_code_cell(source, execution_count=1, outputs=outputs)])
    nbformat.write(notebook, tmp_path / "planted.ipynb")
    assert (nbval(tmp_path / "planted.ipynb").returncode == 0) == passes


def test_network_is_cut():
    script = "import urllib.request; urllib.request.urlopen('http://192.0.2.1', timeout=3)"
    done = run_offline([sys.executable, "-c", script])
    assert done.returncode != 0 and (
        "without a network" in done.stderr or "unreachable" in done.stderr
    )


def runs_alone(source: str, folder) -> subprocess.CompletedProcess:
    """A cell in an empty namespace and folder, without a network; a warning counts as an error."""
    code = f"import os; os.chdir({str(folder)!r})\n{source}"
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    return run_offline(command, **own_folders(folder))


def copy_cell_alone(path, folder) -> subprocess.CompletedProcess:
    (cell,) = [c.source for c in read(path).cells if "copy" in c.metadata.get("tags", [])]
    return runs_alone(cell, folder)


@pytest.mark.in_background(job=copy_cell_alone)
@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if not is_deep(p)], ids=lambda p: p.stem)
def test_copy_cell_runs_alone(path, done):
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "planted",
    ["print(task)", "open('../data/README.md')", "import warnings; warnings.warn('old')", "1 / 0"],
)
def test_the_copy_check_bites(planted, tmp_path):
    """A name from another cell, a file beside the notebook, a warning, an error."""
    assert runs_alone(planted, tmp_path).returncode != 0


# ---- notebook 05: what is built in sight equals the helper ----------------------------------


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
    """One epoch of the notebook's loop and of fine_tune, on the same batches: the same weights."""
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
    done = nbval(path, ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["busi", "breastmnist"])
def test_make_run_on_real_images_without_a_network(task):
    done = run_offline(["make", "run", f"TASK={task}"])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Test set opened 1 time(s)" in done.stdout and "patients unknown" in done.stdout
