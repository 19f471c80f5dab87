"""MedMNIST files: every way one can be wrong, near-copies, downloads, and where files lie."""

import hashlib

import medmnist as package
import numpy as np
import pytest

from medtl_utils.data import DataError, near_copies
from medtl_utils.datasets import load_task, medmnist, medmnist_files
from tests.conftest import BREAST, make_split


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
    assert f"100 labelled images: {len(few.train)} to train, {len(few.val)} to val" in few.card
    names = "\n".join([*few.train.ids, *few.val.ids]).encode()
    assert hashlib.sha256(names).hexdigest()[:12] == "2e756efcd79d", "the same images, for ever"
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
    def fail(self):
        raise RuntimeError("no route")

    monkeypatch.setattr(package.BreastMNIST, "download", fail)
    with pytest.raises(DataError, match="breastmnist.npz is missing.*put the file from http"):
        load_task("breastmnist", root=tmp_path / "new")


def test_download_with_a_wrong_hash_stores_nothing(tmp_path, monkeypatch):
    def wrong(self):
        np.savez(f"{self.root}/breastmnist.npz", **fake_breast())

    monkeypatch.setattr(package.BreastMNIST, "download", wrong)
    with pytest.raises(DataError, match="MD5 .* expected 750601b1f35ba3300ea97c75c52ff8f6"):
        load_task("breastmnist", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_download_with_the_right_hash_is_kept(tmp_path, monkeypatch):
    np.savez(tmp_path / "original.npz", **fake_breast())
    content = (tmp_path / "original.npz").read_bytes()
    monkeypatch.setitem(package.INFO["breastmnist"], "MD5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(
        package.BreastMNIST,
        "download",
        lambda self: open(f"{self.root}/breastmnist.npz", "wb").write(content),
    )
    assert len(load_task("breastmnist", root=tmp_path / "data").train) == 546
    assert (tmp_path / "data" / "breastmnist.npz").read_bytes() == content


def test_breastmnist_twins():
    """52 of 156 test images have a near-copy, 4 with the other label; 104 (36 malignant) none."""
    task = load_task("breastmnist", root=BREAST.parent)
    test = task._test
    assert int(test.twins.sum()) == 52 and int((~test.twins).sum()) == 104
    assert int((test.labels.numpy()[~test.twins] == task.positive).sum()) == 36
    assert "52 correlate" in task.card and "4 of them with the other label" in task.card
    assert int((test.labels == 0).sum()) == 42


# ---- MedMNIST: near-copies, ids, folders ---------------------------------------------------------


def with_near_copies() -> dict[str, np.ndarray]:
    """Each training image stands there twice, once with the other label; some also in val."""
    arrays = fake_breast()
    images = arrays["train_images"]
    images[273:] = np.clip(images[:273].astype(int) + 3, 0, 255)
    arrays["train_labels"][273:] = 1 - arrays["train_labels"][:273]
    arrays["val_images"][:20] = images[:20]
    return arrays


def test_near_copies_stay_on_one_side_whatever_their_label(tmp_path, monkeypatch):
    np.savez(tmp_path / "breastmnist.npz", **with_near_copies())
    for seed in range(3):
        task = load_task("breastmnist", size=28, n_train=200, seed=seed, root=tmp_path)
        together = np.concatenate([task.train.images.numpy(), task.val.images.numpy()])
        groups = near_copies(together)
        assert len(set(groups)) < 200, "some pairs are drawn whole"
        assert not set(groups[: len(task.train)]) & set(groups[len(task.train) :])
        assert "are on one side" in task.card
    draw = medmnist.draw_labelled
    alone = lambda labels, groups, *more: draw(labels, np.arange(len(labels)), *more)
    monkeypatch.setattr(medmnist, "draw_labelled", alone)
    with pytest.raises(ValueError, match="near-copies lie in training and validation"):
        load_task("breastmnist", size=28, n_train=200, root=tmp_path)


def test_official_splits_may_share_near_copies_but_folds_do_not(tmp_path):
    np.savez(tmp_path / "breastmnist.npz", **with_near_copies())
    task = load_task("breastmnist", size=28, root=tmp_path)
    assert "lie in training and validation both (20 groups)" in task.card
    for fold in task.folds(3):
        assert not set(fold.train.near_copies) & set(fold.val.near_copies)
        assert (medmnist.find_twins(fold.val.images.numpy(), fold.train.images.numpy()) < 0).all()


def test_medmnist_ids_name_the_row_in_the_archive(tmp_path):
    arrays = fake_breast()
    np.savez(tmp_path / "breastmnist.npz", **arrays)
    small = load_task("breastmnist", size=28, n_train=100, root=tmp_path)
    large = load_task("breastmnist", size=64, root=tmp_path)
    assert small._test_key == large._test_key and small._test.ids[17] == "breastmnist/test/17"
    assert large.val.ids[3] == "breastmnist/val/3"
    for split in (small.train, small.val, small._test):
        for image, name in zip(split.images[:, 0].numpy(), split.ids):
            _, part, row = name.split("/")
            assert np.array_equal(image, arrays[f"{part}_images"][int(row)])


def test_cards_say_where_nobody_looked(monkeypatch):
    unseen = make_split("train", 10, size=28)
    assert "not looked for: folds are by image" in medmnist._about_groups(unseen, unseen)
    monkeypatch.setattr(medmnist, "COMPARABLE", 15)
    assert "(20 images are too many)" in medmnist._about_groups(unseen, unseen)


def test_files_are_looked_for_where_they_ship_then_where_they_are_downloaded(tmp_path, monkeypatch):
    ships, downloads = tmp_path / "ships", tmp_path / "downloads"
    monkeypatch.setattr(medmnist_files, "data_folder", lambda: ships)
    monkeypatch.setattr(medmnist_files, "download_folder", lambda: downloads)

    np.savez(tmp_path / "original.npz", **fake_breast())
    content = (tmp_path / "original.npz").read_bytes()
    monkeypatch.setitem(package.INFO["breastmnist"], "MD5", hashlib.md5(content).hexdigest())

    def store(self):
        with open(f"{self.root}/breastmnist.npz", "wb") as file:
            file.write(content)

    monkeypatch.setattr(package.BreastMNIST, "download", store)
    load_task("breastmnist", size=28)
    assert [f.name for f in downloads.iterdir()] == ["breastmnist.npz"] and not ships.exists()
    ships.mkdir()
    np.savez(ships / "breastmnist.npz", **(fake_breast() | {"train_images": np.zeros(3)}))
    with pytest.raises(DataError, match="ships"):
        load_task("breastmnist", size=28)


def test_near_copies_of_breastmnist():
    """One pair of near-copies in the training set has two labels; 30 groups straddle the border."""
    task = load_task("breastmnist", size=28, root=BREAST.parent)
    assert "(30 groups)" in task.card
    groups = np.concatenate([task.train.near_copies, task.val.near_copies])
    assert len(set(groups)) == 516
    for fold in task.folds(5):
        assert not set(fold.train.near_copies) & set(fold.val.near_copies)
        assert abs(fold.val.labels.double().mean() - 0.73) < 0.02
    few = load_task("breastmnist", size=28, n_train=546, root=BREAST.parent)
    together = {}
    for split in (few.train, few.val):
        for group, label in zip(split.near_copies, split.labels.tolist()):
            together.setdefault(group, set()).add(label)
    assert sum(len(labels) > 1 for labels in together.values()) == 1
