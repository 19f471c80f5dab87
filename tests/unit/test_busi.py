"""The task "busi": its rows, sizes and folds, and the names it shares with BreastMNIST."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from medtl_utils import ledger
from medtl_utils.datasets import busi, load_task
from tests.conftest import ROOT

DATA = ROOT / "data"


@pytest.fixture(scope="module")
def task():
    return load_task("busi", size=32)


@pytest.fixture(scope="module")
def table():
    return busi.read_table()


def parts(task) -> list:
    return [task.train, task.val, task._test]


def rows_of(split, table) -> np.ndarray:
    """The rows of the table that a split's images have, by their ids."""
    row = {f"busi/{file}": number for number, file in enumerate(table["file"])}
    return np.array([row[name] for name in split.ids])


# ---- the task ------------------------------------------------------------------------------------


def test_every_image_is_in_its_fold_with_what_belongs_to_it(task, table):
    for split, folds in zip(parts(task), ((2, 3, 4), (1,), (0,))):
        rows = rows_of(split, table)
        assert set(table["fold"][rows]) == set(folds) and len(rows) == len(set(rows))
        assert np.array_equal(split.labels.numpy() == 1, table["class"][rows] == "malignant")
        assert np.array_equal(split.near_copies, table["group"][rows])
        for column in ("calipers", "text", "other_marks", "axilla"):
            assert np.array_equal(split.descriptors[column], table[column][rows])
        assert split.descriptors["finding"].tolist() == table["class"][rows].tolist()
        assert split.descriptors["native_width"].tolist() == table["width"][rows].tolist()
        assert split.patients is None and split.images.shape[1:] == (1, 32, 32)
        has_lesion = split.masks.any((1, 2)).numpy()
        assert not has_lesion[table["class"][rows] == "normal"].any()
        assert (~has_lesion[table["class"][rows] != "normal"]).sum() <= 2
    assert sum(map(len, parts(task))) == 780 and [len(s) for s in parts(task)][1:] == [156, 156]
    assert task.classes == ("normal or benign", "malignant") and task.positive == 1


def test_the_pixels_are_the_files(table):
    task = load_task("busi", size=128)
    with np.load(DATA / "busi_128.npz") as file:
        stored = file["images"]
    with np.load(DATA / "busi_masks_128.npz") as file:
        lesions = np.unpackbits(file["masks"], axis=1).reshape(780, 128, 128) > 0
    for split in parts(task):
        rows = rows_of(split, table)
        assert np.array_equal(split.images[:, 0].numpy(), stored[rows])
        assert np.array_equal(split.masks.numpy(), lesions[rows])
    assert "128×128 (as stored)" in task.card


def half(images: np.ndarray) -> np.ndarray:
    """To half the size with the antialiased triangle (1, 3, 3, 1) / 8; the border is left out."""
    x = images.astype(np.float64)
    for axis in (1, 2):
        x = np.moveaxis(x, axis, 0)
        x = (x[1:-4:2] + 3 * x[2:-3:2] + 3 * x[3:-2:2] + x[4:-1:2]) / 8
        x = np.moveaxis(x, 0, axis)
    return x


def test_smaller_images_are_antialiased():
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 128)).astype(np.uint8)
    small = busi._resized(images, 64)[:, 1:-1, 1:-1]
    assert np.abs(small - half(images)).max() <= 1  # rounded once an axis
    nearest = np.asarray(Image.fromarray(images[0]).resize((64, 64), Image.Resampling.NEAREST))
    assert np.abs(nearest[1:-1, 1:-1] - half(images)[0]).max() > 50  # a mutant is found
    assert (busi._resized(images, 128) == images).all()


def test_masks_follow_their_lesions_to_any_size():
    for size in (64, 224):
        masks = load_task("busi", size=size, n_train=20)._test.masks
        full = load_task("busi", size=128, n_train=20)._test.masks
        area, expected = masks.double().mean((1, 2)), full.double().mean((1, 2))
        assert masks.shape[1:] == (size, size) and (area - expected).abs().max() < 0.01


# SHA-256 of the ids, to train and to validate
LABELLED = {25: "6158a0b8530e", 100: "6eeda75755e9", 624: "4cc2c63d3c46"}


@pytest.mark.parametrize("n", LABELLED)
def test_the_same_images_are_labelled_for_ever(n, table):
    few = load_task("busi", size=16, n_train=n, seed=3)
    assert len(few.train) + len(few.val) == n and set(few.val.labels.tolist()) == {0, 1}
    assert not set(few.train.near_copies) & set(few.val.near_copies)
    ids = [*few.train.ids, *few.val.ids]
    assert (table["fold"][rows_of(few.train, table)] > 0).all()
    assert hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12] == LABELLED[n]
    assert f"{n} labelled images: {len(few.train)} to train" in few.card
    larger = load_task("busi", size=16, n_train=min(2 * n, 624), seed=3)
    assert set(ids) <= {*larger.train.ids, *larger.val.ids}


def test_more_than_there_are():
    with pytest.raises(ValueError, match="between 10 and 624 for busi"):
        load_task("busi", size=16, n_train=625)


def test_folds_keep_near_copies_together(task):
    folds = task.folds(5)
    assert sorted(np.concatenate([f.val.ids for f in folds])) == sorted(
        [*task.train.ids, *task.val.ids]
    )
    for fold in folds:
        assert fold._test is None and fold.train.masks is not None
        assert not set(fold.train.near_copies) & set(fold.val.near_copies)


def test_the_card_tells_what_must_be_known(task):
    for words in (
        "masks and crop are from the archive, whose page names no licence",
        "open an issue in this course's repository",
        "from 128×128, bilinear, antialiased",
        "no patient identifiers",
        "548 groups",
        "7 groups have two findings, 5 of them malignant and not",
        "calipers 0/97/30, text 2/105/22, other marks 3/17/11, axilla 0/20/8",
        "other views of the same woman stay undetected",
        "Never for diagnosis",
        "468 to train, 156 to validate; 156 to test, 42 of them malignant",
    ):
        assert words in task.card
    assert "ENLARGED from 128×128" in load_task("busi", size=160, n_train=20).card


# ---- all folds -----------------------------------------------------------------------------------


def test_all_folds_test_each_image_once_and_leave_a_trace(
    task, table, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(ledger, "_told", set())
    for empty in ("", "  ", None):
        with pytest.raises(ValueError, match="why all folds are looked at"):
            busi.all_folds(empty, size=16)
    assert not (tmp_path / "ledger").exists()
    tasks = busi.all_folds("a study", size=16)
    assert Counter(name for t in tasks for name in t._test.ids) == Counter(busi.names(table))
    for k, one in enumerate(tasks):
        assert set(table["fold"][rows_of(one._test, table)]) == {k}
        groups = [set(split.near_copies) for split in parts(one)]
        assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
        assert sum(map(len, parts(one))) == 780
    assert tasks[0]._test_key == task._test_key != tasks[1]._test_key
    assert tasks[0].train.ids.tolist() == task.train.ids.tolist()
    assert capsys.readouterr().out == ""
    busi.all_folds("another study", size=28)
    assert "opened 1 time before, last today for: 'a study'" in capsys.readouterr().out
    log = (tmp_path / "ledger" / ledger.FILE).read_text()
    entries = [json.loads(line) for line in log.splitlines() if line]
    assert [(e["reason"], e["before"]) for e in entries] == [("a study", 0), ("another study", 1)]
    assert len({e["key"] for e in entries}) == 1 and entries[0]["key"] != task._test_key


def test_a_look_that_cannot_be_written_down_is_told(tmp_path, capsys):
    (tmp_path / "ledger").write_text("a file where the folder should be")
    assert len(busi.all_folds("a study", size=16)) == 5
    assert "was not written down" in capsys.readouterr().out


# ---- one test set under two names ----------------------------------------------------------------


def test_breastmnists_images_have_busis_names(table):
    small, large = load_task("breastmnist", size=28), load_task("busi", size=28)
    pixels = {n: i for s in parts(large) for n, i in zip(s.ids, s.images[:, 0].numpy())}
    malignant = {n: int(y) for s in parts(large) for n, y in zip(s.ids, s.labels)}
    correlation, neighbour = [], []
    for split in parts(small):
        assert (split.labels.numpy() == [1 - malignant[n] for n in split.ids]).all()
        for image, name, other in zip(split.images[:, 0].numpy(), split.ids, np.roll(split.ids, 1)):
            correlation.append(np.corrcoef(image.ravel(), pixels[name].ravel())[0, 1])
            neighbour.append(np.corrcoef(image.ravel(), pixels[other].ravel())[0, 1])
    assert len(correlation) == 780 and min(correlation) > 0.95
    assert np.median(neighbour) < 0.9  # rows that do not match are found
    assert load_task("breastmnist", size=64)._test_key == small._test_key != large._test_key
    assert "75 test images have one in training or validation" in small.card
