"""Splits and tasks: what must fit, what stays aligned, and what is checked."""

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from medtl_utils import paths
from medtl_utils.data import Split, Task, check_disjoint
from tests.conftest import make_split

# ---- Split ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(4, 1, 8, 8)}, "uint8"),
        ({"images": torch.zeros(4, 8, 8, dtype=torch.uint8)}, r"\(N, C, H, W\)"),
        ({"labels": torch.tensor([0, 1, 2, 1])}, "0..1"),
        ({"labels": torch.tensor([0, 1, -1, 1])}, "0..1"),
        ({"labels": torch.tensor([0.0, 1, 0, 1])}, "int64"),
        ({"labels": torch.tensor([0, 1])}, "shape"),
        ({"positive": 2}, "positive"),
        ({"patients": np.array(["a"])}, "patients"),
        ({"masks": torch.zeros(3, 8, 8, dtype=torch.bool)}, "masks"),
        ({"twins": np.zeros(5, bool)}, "twins"),
        ({"near_copies": np.arange(3)}, "near_copies"),
        ({"ids": np.array(["a", "b"])}, "ids"),
        ({"descriptors": {"age": np.arange(4), "margin": np.arange(3)}}, "descriptors.*margin"),
    ],
)
def test_a_split_refuses_what_does_not_fit(change, message):
    good = dict(
        name="mine",
        images=torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
        labels=torch.tensor([0, 1, 0, 1]),
        classes=("a", "b"),
    )
    Split(**good)
    with pytest.raises(ValueError, match=f"mine: .*{message}"):
        Split(**(good | change))


def full_split(n=12) -> Split:
    """Every optional field is there, and tells the row that it belongs to."""
    rows = np.arange(n)
    return Split(
        "full",
        torch.from_numpy(rows.astype(np.uint8))[:, None, None, None].expand(n, 1, 4, 4),
        torch.from_numpy(rows % 2),
        ("even", "odd"),
        1,
        patients=np.array([f"p{i}" for i in rows]),
        masks=torch.from_numpy(rows % 3 == 0)[:, None, None].expand(n, 4, 4),
        descriptors={"row": rows},
        twins=rows % 5 == 0,
        near_copies=rows,
        ids=np.array([f"mine/{i}" for i in rows]),
    )


@pytest.mark.parametrize(
    "index",
    [
        np.arange(12) % 2 == 1,
        np.array([7, 2, 2]),
        torch.tensor([0, 11]),
        slice(2, 9, 3),
        [5],
        np.zeros(12, bool),
    ],
)
def test_indexing_keeps_everything_aligned(index):
    part = full_split()[index]
    rows = part.images[:, 0, 0, 0].numpy()
    assert part.labels.tolist() == (rows % 2).tolist()
    assert part.patients.tolist() == [f"p{i}" for i in rows]
    assert part.masks[:, 0, 0].tolist() == (rows % 3 == 0).tolist()
    assert part.descriptors["row"].tolist() == part.near_copies.tolist() == rows.tolist()
    assert part.twins.tolist() == (rows % 5 == 0).tolist()
    assert part.ids.tolist() == [f"mine/{i}" for i in rows]


def test_groups_are_patients_or_near_copies_or_single_images():
    split = full_split()
    assert split.groups.tolist() == split.patients.tolist()
    copies = dataclasses.replace(split, patients=None, near_copies=np.arange(12) // 2)
    assert copies.groups.tolist() == [i // 2 for i in range(12)]
    alone = dataclasses.replace(copies, near_copies=None)
    assert len(set(alone.groups)) == 12


# ---- check_disjoint ------------------------------------------------------------------------------


def without_patients(split: Split) -> Split:
    return dataclasses.replace(split, patients=None)


def test_a_shared_patient_raises():
    train, val = make_split("train"), make_split("val", 12, seed=1)
    assert check_disjoint(train, val) == "no patient is in two of train, val"
    val.patients = np.array([train.patients[5], *val.patients[1:]])
    with pytest.raises(ValueError, match="1 patient.*both train and val.*train-5"):
        check_disjoint(train, val)


def test_splits_without_patients_are_not_passed_in_silence():
    train, test = make_split("train"), make_split("test", 12, seed=1)
    with pytest.raises(ValueError, match="cannot be checked.*test has no patients, train has"):
        check_disjoint(train, without_patients(test))
    train, test = without_patients(train), without_patients(test)
    said = check_disjoint(train, test)
    assert said == (
        "patients unknown: only exact copies were looked for; no image is in two of train, test"
    )
    test.images[3:6] = train.images[8]  # one picture, three times here
    assert "1 image is in two of train, test" in check_disjoint(train, test)
    test.images[7] = train.images[1]
    assert "2 images are in two of train, test" in check_disjoint(train, test)
    small = make_split("small", 4, size=8)
    assert "no image" in check_disjoint(train, without_patients(small))


# ---- Task and folders ----------------------------------------------------------------------------


def test_task_is_a_dataclass(tiny_task):
    assert isinstance(dataclasses.replace(tiny_task, train=tiny_task.train[:4]), Task)


def test_a_task_needs_no_test_set():
    task = Task("mine", make_split("train"), make_split("val", 12, seed=1))
    assert "no test set" in repr(task) and task.card == "" and task.openings_before() == []
    with pytest.raises(ValueError, match="'mine' has no test set.*Task\\(name, train, val"):
        task.open_test("final")


def test_folders(tmp_path, monkeypatch):
    assert paths.data_folder().name == "data" and (paths.data_folder() / "README.md").is_file()
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)  # as if it were installed
    monkeypatch.setattr(paths.platformdirs, "user_data_path", lambda app: tmp_path / "user" / app)
    monkeypatch.setattr(paths.platformdirs, "user_cache_path", lambda app: tmp_path / "tmp" / app)
    assert paths.data_folder().parent.name == "medtl_utils"
    assert paths.download_folder() == tmp_path / "user" / "medtl_utils"
    assert paths.cache_folder() == tmp_path / "tmp" / "medtl_utils"


# ---- who may import whom -------------------------------------------------------------------------

# from below to above; modules of one line do not know each other
LAYERS = [("paths",), ("ledger", "grouping", "phantom"), ("data",), ("datasets",)]


def relative_imports(source: str) -> set[str]:
    """The modules of the package that some code imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module.split(".")[0]} if node.module else {a.name for a in node.names}
    return found


def test_arrows_point_one_way():
    package, below = Path(paths.__file__).parent, set()
    for layer in LAYERS[:-1]:
        for module in layer:
            used = relative_imports((package / f"{module}.py").read_text(encoding="utf-8"))
            assert not used & {name for names in LAYERS for name in names} - below, module
        below |= set(layer)
    assert relative_imports("def f():\n    from .datasets import load_task") == {"datasets"}
    assert relative_imports("from . import ledger") == {"ledger"}
