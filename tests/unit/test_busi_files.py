"""The files of the task "busi": every way they can be wrong, and what runs without some of them."""

import csv
import hashlib
import io
import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from medtl_utils.data import DataError
from medtl_utils.datasets import busi, load_task, shipped
from tests.unit.test_busi import DATA, parts


@pytest.fixture(scope="module")
def task():
    return load_task("busi", size=32)


NAMES = ("busi_images.csv", "busi_128.npz", "busi_masks_128.npz")


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_is_found(name, tmp_path):
    content = bytearray((DATA / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: its SHA-256 is .* was changed"):
        load_task("busi", size=16, root=tmp_path)


def plant(name: str, content: bytes, folder, monkeypatch) -> None:
    """A file with a fault, as if its hash were right: the next check must find it."""
    (folder / name).write_bytes(content)
    monkeypatch.setitem(shipped.SHA256, name, shipped.digest(name, content))


def changed_table(change) -> bytes:
    rows = shipped.read_table("busi_images.csv")
    rows = change(rows) or rows
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def move_one_of_a_group(rows, column="group"):
    group = Counter(r[column] for r in rows).most_common(1)[0][0]
    one = next(r for r in rows if r[column] == group)
    one["fold"] = str((int(one["fold"]) + 1) % 5)


def move_one_of_the_stricter(rows):
    move_one_of_a_group(rows, "group_stricter")
    for row, entry in enumerate(rows):
        entry["group"] = row


TABLES = {
    "a group across folds": (move_one_of_a_group, "group .* lies in the folds .*share one fold"),
    "a stricter one": (move_one_of_the_stricter, "group_stricter .* lies in the folds"),
    "shuffled rows": (lambda rows: rows[::-1], "the rows are not in order"),
    "twice": (lambda rows: rows[1].update(file=rows[0]["file"]), "a file occurs twice"),
    "class": (lambda rows: rows[5].update({"class": "malignant"}), "its folder and its class"),
    "folds": (lambda rows: [r.update(fold=0) for r in rows] and None, "expected 0 to 4"),
    "too few rows": (lambda rows: rows[:779], "has 779 rows, the images are .*780.*not match"),
}


def test_the_way_faults_are_planted_changes_nothing_else(tmp_path, monkeypatch, task):
    plant("busi_images.csv", changed_table(lambda rows: rows), tmp_path, monkeypatch)
    again = load_task("busi", size=32, root=tmp_path)
    assert again.card == task.card and torch.equal(again.val.images, task.val.images)


@pytest.mark.parametrize(("change", "words"), TABLES.values(), ids=TABLES)
def test_a_wrong_table_is_found(change, words, tmp_path, monkeypatch):
    plant("busi_images.csv", changed_table(change), tmp_path, monkeypatch)
    with pytest.raises(DataError, match=words):
        load_task("busi", size=16, root=tmp_path)


def arrays_file(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_shuffled_masks_and_shuffled_images_are_found(tmp_path, monkeypatch):
    with np.load(DATA / "busi_masks_128.npz") as file:
        content = arrays_file(masks=file["masks"][::-1])
    plant("busi_masks_128.npz", content, tmp_path, monkeypatch)
    with pytest.raises(DataError, match="masks_128.npz and busi_images.csv do not match"):
        load_task("busi", size=16, root=tmp_path)
    (tmp_path / "busi_masks_128.npz").unlink()
    with np.load(DATA / "busi_128.npz") as file:
        (tmp_path / "busi_128.npz").write_bytes(arrays_file(images=file["images"][::-1]))
    with pytest.raises(DataError, match="busi_128.npz: its SHA-256"):
        load_task("busi", size=16, root=tmp_path)


@pytest.mark.parametrize("name", ["busi_images.csv", "busi_128.npz"])
def test_a_missing_file_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "data_folder", lambda: tmp_path)
    for other in set(NAMES) - {name}:
        shutil.copy(DATA / other, tmp_path)
    with pytest.raises(DataError, match=f"{name} cannot be read .*git checkout"):
        load_task("busi", size=16)


def test_it_runs_without_the_masks(tmp_path, monkeypatch, task):
    monkeypatch.setattr(shipped, "data_folder", lambda: tmp_path)
    for name in ("busi_images.csv", "busi_128.npz"):
        shutil.copy(DATA / name, tmp_path)
    bare = load_task("busi", size=32)
    assert all(split.masks is None for split in parts(bare))
    assert torch.equal(bare.train.images, task.train.images) and len(bare.folds(3)) == 3
    assert "Lesion masks: none" in bare.card and "Lesion masks: none" not in task.card


# ---- 224 pixels ----------------------------------------------------------------------------------


def test_larger_images_are_used_where_they_are(tmp_path, monkeypatch):
    with np.load(DATA / "busi_128.npz") as file:
        large = np.repeat(np.repeat(file["images"][:, :112, :112], 2, axis=1), 2, axis=2)
    (tmp_path / "busi_224.npz").write_bytes(arrays_file(images=large))
    assert load_task("busi", size=128, n_train=20, root=tmp_path).card.count("as stored") == 1
    with pytest.raises(DataError, match="busi_224.npz cannot be used .other pixels"):
        load_task("busi", size=200, root=tmp_path)
    monkeypatch.setitem(busi.LARGE_SHA256, "busi", hashlib.sha256(large.tobytes()).hexdigest())
    task = load_task("busi", size=224, n_train=20, root=tmp_path)
    assert np.array_equal(task._test.images[:, 0], large[busi.read_table()["fold"] == 0])
    assert "224×224 (as stored)" in task.card and task._test.masks.shape[1:] == (224, 224)
    (tmp_path / "busi_224.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="busi_224.npz cannot be used .it is cut off"):
        load_task("busi", size=200, root=tmp_path)
