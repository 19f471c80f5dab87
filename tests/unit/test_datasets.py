"""`load_task`: its table of names, the phantom and its cache, and which images are labelled."""

import hashlib

import numpy as np
import pytest
import torch

from medtl_utils import datasets
from medtl_utils import phantom as simulator
from medtl_utils.data import Task
from medtl_utils.datasets import load_task, phantom
from tests.conftest import make_split

# ---- the phantom -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def phantom_task(tmp_path_factory):
    return load_task(
        "phantom", size=16, n_train=100, seed=3, root=tmp_path_factory.mktemp("phantom")
    )


def test_phantom_splits_by_patient(phantom_task):
    task = phantom_task
    assert len(task.train) + len(task.val) == 100
    people = [set(s.patients) for s in (task.train, task.val, task._test)]
    assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
    assert task.train.images.dtype == torch.uint8 and task.train.labels.dtype == torch.int64
    assert task.train.masks.shape == (len(task.train), 16, 16)
    assert set(task.train.descriptors) == {*simulator.DESCRIPTORS, "scanner", "size_mm"}
    assert task.classes == ("benign", "malignant") and task.positive == 1
    assert "seven BI-RADS descriptors" in task.card and "a field of 30 to 48 mm" in task.card
    assert f"descriptors: {simulator.best_auc():.3f}" in task.card
    assert "simulation" in task.card and "locked" in repr(task) and "patients" in repr(task.train)
    both = f"100 labelled images: {len(task.train)} to train, {len(task.val)} to validate"
    assert both in task.card


def test_n_train_is_nested_and_balanced(phantom_task, tmp_path):
    small = load_task("phantom", size=16, n_train=25, seed=3, root=tmp_path)
    large = load_task("phantom", size=16, n_train=200, seed=3, root=tmp_path)
    together = lambda t: set(t.train.patients) | set(t.val.patients)
    assert together(small) <= together(large)
    assert set(small.val.labels.tolist()) == set(small.train.labels.tolist()) == {0, 1}
    assert torch.equal(small._test.images, large._test.images)
    assert not torch.equal(
        small._test.images[:50],
        load_task("phantom", size=16, n_train=25, seed=4, root=tmp_path)._test.images[:50],
    )


def test_damaged_cache_is_made_again(tmp_path):
    first = load_task("phantom", size=16, n_train=25, root=tmp_path)
    for file in (tmp_path / "cache").glob("*.npz"):
        file.write_bytes(file.read_bytes()[:-100])
    assert torch.equal(
        load_task("phantom", size=16, n_train=25, root=tmp_path).train.images, first.train.images
    )
    file = next((tmp_path / "cache").glob("*test*.npz"))
    with np.load(file) as z:
        arrays = dict(z)
    arrays["images"] = 255 - arrays["images"]
    np.savez(file, **arrays)
    assert torch.equal(
        load_task("phantom", size=16, n_train=25, root=tmp_path)._test.images, first._test.images
    )


def test_read_only_folder_still_works(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert len(load_task("phantom", size=16, n_train=25, root=blocked).train) > 10


def test_the_cache_is_the_users_where_no_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "cache_folder", lambda: tmp_path / "mine")
    load_task("phantom", size=16, n_train=25)
    names = {file.name for file in (tmp_path / "mine").iterdir()}
    assert names == {"phantom_v2_train_280_16_0.npz", "phantom_v2_test_400_16_0.npz"}


def digest_of_ids(task: Task) -> str:
    names = ["train", *task.train.ids, "val", *task.val.ids]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


PHANTOM_ROWS = {25: "d64139d76228", 100: "862b682d436d", 600: "349c3c28e266"}


def test_the_same_images_are_labelled_for_ever(phantom_task, tmp_path):
    """Kept tables and stored weights name images by n_train and seed."""
    assert digest_of_ids(phantom_task) == PHANTOM_ROWS[100]
    for n in (25, 600):
        task = load_task("phantom", size=16, n_train=n, seed=3, root=tmp_path)
        assert digest_of_ids(task) == PHANTOM_ROWS[n]


def test_phantom_ids(phantom_task):
    for split in (phantom_task.train, phantom_task.val, phantom_task._test):
        parts = [name.split("/") for name in split.ids]
        assert [p[2] for p in parts] == split.patients.tolist()
        assert {(p[0], p[1]) for p in parts} == {("phantom", "v2")}
        assert len(set(split.ids)) == len(split)
    test = phantom_task._test
    assert [int(i.rsplit("/")[-1]) for i in test.ids if "0001/" in i] == list(
        range((test.patients == "test-3-0001").sum())
    )


# ---- names ---------------------------------------------------------------------------------------


def test_a_data_set_is_one_line(monkeypatch):
    def load(name, size, n_train, seed, root):
        val = make_split("val", 12, seed=seed)
        return Task(name, make_split("train", size=size), val, f"{n_train} {root}")

    monkeypatch.setitem(datasets.LOADERS, "mine", load)
    assert load_task("mine", size=32, n_train=20).card == "20 None"

    def shares_patients(name, size, n_train, seed, root):
        return Task(name, make_split("train"), make_split("train", 12))

    monkeypatch.setitem(datasets.LOADERS, "mine", shares_patients)
    with pytest.raises(ValueError, match="are in both train and train"):
        load_task("mine")


@pytest.mark.parametrize("name", ["nonsense", "chestmnist", "organmnist3d", "", "Phantom"])
def test_unknown_task_lists_the_names(name):
    with pytest.raises(ValueError, match="phantom, busi, pathmnist.*organsmnist.*folder:PATH"):
        load_task(name)


@pytest.mark.parametrize(
    "bad", [{"size": 8}, {"size": "64"}, {"n_train": 0}, {"n_train": 9}, {"n_train": 2.5}]
)
def test_impossible_arguments(bad, tmp_path):
    with pytest.raises(ValueError, match=next(iter(bad))):
        load_task("phantom", **({"size": 16} | bad), root=tmp_path)
