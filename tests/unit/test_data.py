"""Tasks: splits by patient, the locked test set, twins, and every way a file can be wrong."""

import json

import numpy as np
import pytest
import torch

from medtl_utils import data
from medtl_utils.data import (
    DataError,
    Split,
    Task,
    TestSetOpened,
    check_disjoint,
    find_twins,
    load_task,
)
from tests.conftest import BREAST, make_split


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
    assert set(task.train.descriptors) >= {"margin", "scanner", "size_mm"}
    assert task.classes == ("benign", "malignant") and task.positive == 1
    assert "simulation" in task.card and "locked" in repr(task) and "patients" in repr(task.train)


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


def test_test_set_opens_once(tiny_task, tmp_path):
    with pytest.raises(ValueError, match="why the test set is opened"):
        tiny_task.open_test("  ")
    assert len(tiny_task.open_test("final")) == 16
    with pytest.raises(TestSetOpened, match="'final'"):
        tiny_task.open_test("again")
    tiny_task.open_test("a reviewer asked", reopen=True)
    assert [o["reason"] for o in tiny_task.openings] == ["final", "a reviewer asked"]
    log = [
        json.loads(line)
        for line in (tmp_path / "outputs" / "test_openings.jsonl").read_text().splitlines()
    ]
    assert [entry["opening"] for entry in log] == [1, 2]
    assert "opened 2 time(s)" in repr(tiny_task)


def test_opening_without_a_writable_log_is_noted(tiny_task, tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("")
    monkeypatch.setattr(data, "output_folder", lambda: tmp_path / "blocked")
    tiny_task.open_test("final")
    assert "read-only" in tiny_task.openings[0]["log"]


def test_a_shared_patient_raises():
    train, val = make_split("train"), make_split("val", 12)
    check_disjoint(train, val)
    val.patients = np.array([train.patients[5], *val.patients[1:]])
    with pytest.raises(ValueError, match="1 patient.*train-5"):
        check_disjoint(train, val)
    val.patients = None
    check_disjoint(train, val)


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


def test_indexing_keeps_everything_aligned(phantom_task):
    split = phantom_task.train
    for index in (
        split.labels.numpy() == 1,
        np.flatnonzero(split.labels.numpy() == 1),
        torch.where(split.labels == 1)[0],
    ):
        part = split[index]
        assert set(part.labels.tolist()) == {1} and len(part.masks) == len(part.patients) == len(
            part.descriptors["margin"]
        ) == len(part)
    assert len(split[2:5]) == 3 and len(split[[7]]) == 1


@pytest.mark.parametrize("name", ["nonsense", "chestmnist", "organmnist3d", "", "Phantom"])
def test_unknown_task_lists_the_names(name):
    with pytest.raises(ValueError, match="phantom, pathmnist.*organsmnist"):
        load_task(name)


@pytest.mark.parametrize(
    "bad", [{"size": 8}, {"size": "64"}, {"n_train": 0}, {"n_train": 9}, {"n_train": 2.5}]
)
def test_impossible_arguments(bad, tmp_path):
    with pytest.raises(ValueError, match=next(iter(bad))):
        load_task("phantom", **({"size": 16} | bad), root=tmp_path)


def test_find_twins():
    rng = np.random.default_rng(0)
    others = rng.integers(0, 200, (30, 8, 8))
    images = np.stack(
        [
            others[4] * 0.5 + 20,
            rng.integers(0, 200, (8, 8)),
            np.zeros((8, 8)),
            others[9] + rng.normal(0, 2, (8, 8)),
        ]
    )
    assert find_twins(images, others).tolist() == [4, -1, -1, 9]


# ---- MedMNIST files -------------------------------------------------------------------------------------------------------


def fake_breast(**change) -> dict[str, np.ndarray]:
    """Arrays of BreastMNIST's shape, with random pixels."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 546), ("val", 78), ("test", 156)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28)).astype(np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 4 > 0).astype(np.uint8)[:, None]
    return arrays | change


def test_medmnist_file_already_there(tmp_path):
    np.savez(tmp_path / "breastmnist.npz", **fake_breast())
    before = (tmp_path / "breastmnist.npz").read_bytes()
    task = load_task("breastmnist", root=tmp_path)
    assert (len(task.train), len(task.val), len(task._test)) == (546, 78, 156)
    assert task.train.images.shape == (546, 1, 64, 64)
    assert task.positive == 0 and task.classes[0] == "malignant" and task.train.patients is None
    assert "28×28" in task.card and "bilinear" in task.card and "CC BY 4.0" in task.card
    assert load_task("breastmnist", size=28, root=tmp_path).train.images.shape[-1] == 28
    few = load_task("breastmnist", n_train=100, seed=1, root=tmp_path)
    assert len(few.train) + len(few.val) == 100
    assert (tmp_path / "breastmnist.npz").read_bytes() == before
    with pytest.raises(ValueError, match="n_train must lie between 10 and 546"):
        load_task("breastmnist", n_train=547, root=tmp_path)


def test_colour_and_many_classes(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 1080), ("val", 120), ("test", 400)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28, 3)).astype(np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 5).astype(np.uint8)[:, None]
    np.savez(tmp_path / "retinamnist.npz", **arrays)
    task = load_task("retinamnist", n_train=60, root=tmp_path)
    assert (
        task.train.images.shape[1:] == (3, 64, 64)
        and task.positive is None
        and len(task.classes) == 5
    )


def spoil(what: str) -> dict[str, np.ndarray]:
    good = fake_breast()
    images, labels = good["train_images"], good["test_labels"]
    return {
        "wrong shape": lambda: fake_breast(train_images=images[:, :20]),
        "too few": lambda: fake_breast(train_images=images[:500]),
        "NaN": lambda: fake_breast(train_images=np.where(images > 250, np.nan, images)),
        "float pixels": lambda: fake_breast(train_images=images.astype(float)),
        "labels out of range": lambda: fake_breast(test_labels=labels + 1),
        "one class": lambda: fake_breast(test_labels=labels * 0),
        "labels shape": lambda: fake_breast(test_labels=labels[:, 0]),
        "missing array": lambda: {k: v for k, v in good.items() if k != "val_labels"},
        "pickled": lambda: fake_breast(train_images=np.array([{"a": 1}], dtype=object)),
    }[what]()


@pytest.mark.parametrize(
    "what",
    [
        "wrong shape",
        "too few",
        "NaN",
        "float pixels",
        "labels out of range",
        "one class",
        "labels shape",
        "missing array",
        "pickled",
    ],
)
def test_wrong_contents_name_the_file_and_the_remedy(what, tmp_path):
    file = tmp_path / "breastmnist.npz"
    np.savez(file, **spoil(what))
    before = file.read_bytes()
    with pytest.raises(DataError, match="breastmnist.npz.*Move the file away"):
        load_task("breastmnist", root=tmp_path)
    assert file.read_bytes() == before


@pytest.mark.parametrize("cut", [0, 10, 5000, 300_000])
def test_truncated_file(cut, tmp_path):
    np.savez(tmp_path / "whole.npz", **fake_breast())
    file = tmp_path / "breastmnist.npz"
    file.write_bytes((tmp_path / "whole.npz").read_bytes()[:cut])
    with pytest.raises(DataError, match="breastmnist.npz cannot be read.*Move the file away"):
        load_task("breastmnist", root=tmp_path)
    assert file.stat().st_size == cut


def test_missing_file_without_a_network(tmp_path, monkeypatch):
    import medmnist

    def fail(self):
        raise RuntimeError("no route")

    monkeypatch.setattr(medmnist.BreastMNIST, "download", fail)
    with pytest.raises(DataError, match="breastmnist.npz is missing.*put the file from http"):
        load_task("breastmnist", root=tmp_path / "new")


def test_download_with_a_wrong_hash_stores_nothing(tmp_path, monkeypatch):
    import medmnist

    def wrong(self):
        np.savez(f"{self.root}/breastmnist.npz", **fake_breast())

    monkeypatch.setattr(medmnist.BreastMNIST, "download", wrong)
    with pytest.raises(DataError, match="MD5 .* expected 750601b1f35ba3300ea97c75c52ff8f6"):
        load_task("breastmnist", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_download_with_the_right_hash_is_kept(tmp_path, monkeypatch):
    import hashlib

    import medmnist

    np.savez(tmp_path / "original.npz", **fake_breast())
    content = (tmp_path / "original.npz").read_bytes()
    monkeypatch.setitem(medmnist.INFO["breastmnist"], "MD5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(
        medmnist.BreastMNIST,
        "download",
        lambda self: open(f"{self.root}/breastmnist.npz", "wb").write(content),
    )
    assert len(load_task("breastmnist", root=tmp_path / "data").train) == 546
    assert (tmp_path / "data" / "breastmnist.npz").read_bytes() == content


@pytest.mark.real_data
def test_breastmnist_twins():
    """52 of 156 test images have a near-copy in training or validation, 4 with the other label; 104 (36 malignant) have none."""
    task = load_task("breastmnist", root=BREAST.parent)
    test = task._test
    assert int(test.twins.sum()) == 52 and int((~test.twins).sum()) == 104
    assert int((test.labels.numpy()[~test.twins] == task.positive).sum()) == 36
    assert "52 correlate" in task.card and "4 of them with the other label" in task.card
    assert int((test.labels == 0).sum()) == 42


@pytest.mark.real_data
def test_twins_stay_on_one_side_of_the_validation_line():
    task = load_task("breastmnist", size=28, n_train=300, seed=0, root=BREAST.parent)
    found = find_twins(task.val.images.numpy(), task.train.images.numpy())
    same_label = task.val.labels[found >= 0] == task.train.labels[found[found >= 0]]
    assert not same_label.any()


def test_folders(tmp_path, monkeypatch):
    assert data.data_folder().name == "data" and (data.data_folder() / "README.md").is_file()
    monkeypatch.setattr(data, "REPOSITORY", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data.data_folder() == tmp_path / "cache" / "medtl_utils"


def test_task_is_a_dataclass(tiny_task):
    import dataclasses

    assert isinstance(dataclasses.replace(tiny_task, train=tiny_task.train[:4]), Task)
