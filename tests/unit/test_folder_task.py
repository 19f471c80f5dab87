"""Tasks from a folder: the split, the card, and folders that are refused."""

import os
import random

import numpy as np
import pytest
from PIL import Image

from medtl_utils import before_training, load_task
from medtl_utils.data import DataError
from medtl_utils.datasets import folder, image_files
from medtl_utils.datasets.folder_card import positive_class
from medtl_utils.grouping import near_copies
from tests.unit.test_folder import make_folder, noise, save
from tests.unit.test_folder_table import make_table

LABELS = ("normal", "benign", "malignant")


def parts(task) -> list:
    return [task.train, task.val, task._test]


def rows(task) -> list[list[str]]:
    return [list(part.ids) for part in parts(task)]


# ---- the split ----------------------------------------------------------------------------------


def test_three_parts_of_all_classes(tmp_path):
    root = make_folder(tmp_path / "mine", n=20, classes=LABELS)
    task = load_task(f"folder:{root}", 16)
    assert [len(part) for part in parts(task)] == [36, 12, 12]
    assert all(part.labels.bincount(minlength=3).min() >= 3 for part in parts(task))
    assert sum(rows(task), []) and len(set(sum(rows(task), []))) == 60
    assert task.classes == ("benign", "malignant", "normal") and task.train.patients is None
    assert "no patient-level claim can be made" in task.card
    assert len(task.folds(3)) == 3


def test_the_test_set_does_not_depend_on_n_train(tmp_path):
    root = make_folder(tmp_path / "mine", n=20)
    everything, some, fewer = (load_task(f"folder:{root}", 16, n) for n in (None, 20, 12))
    assert rows(everything)[2] == rows(some)[2] == rows(fewer)[2]
    labelled = [set(sum(rows(task)[:2], [])) for task in (everything, some, fewer)]
    assert [len(names) for names in labelled] == [32, 20, 12]
    assert labelled[2] < labelled[1] < labelled[0]
    assert rows(everything)[2] != rows(load_task(f"folder:{root}", 16, seed=1))[2]
    assert rows(everything) == rows(load_task(f"folder:{root}", 24))
    with pytest.raises(ValueError, match="n_train must lie between 10 and 32 for folder:"):
        load_task(f"folder:{root}", 16, 33)


def test_the_order_on_disk_changes_nothing(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "mine", n=12)
    first = rows(load_task(f"folder:{root}", 16))
    walk = os.walk

    def shuffled(*args, **kwargs):
        for place, folders, files in walk(*args, **kwargs):
            random.Random(3).shuffle(files)
            yield place, folders, files

    monkeypatch.setattr(os, "walk", shuffled)
    assert rows(load_task(f"folder:{root}", 16)) == first
    monkeypatch.setattr(image_files, "in_order", dict)  # the planted mistake: nothing is sorted
    assert rows(load_task(f"folder:{root}", 16)) != first


def test_patients_stay_together(tmp_path, monkeypatch):
    root = make_table(tmp_path / "mine")
    task = load_task(f"folder:{root}", 16)
    people = [set(part.patients) for part in parts(task)]
    assert len(set.union(*people)) == sum(map(len, people)) == 30 and len(people[2]) == 6
    assert "30 patients by index.csv" in task.card and "the table index.csv" in task.card
    assert task.train.near_copies is None
    by_image = lambda content, copies: np.arange(len(content.images))
    monkeypatch.setattr(folder, "_groups", by_image)  # the planted mistake
    with pytest.raises(ValueError, match="are in both"):
        load_task(f"folder:{root}", 16)


def pairs_apart(task) -> int:
    """How many of the images k and their copies lie in two parts."""
    part_of = {i.split("#")[0]: n for n, names in enumerate(rows(task)) for i in names}
    copies = [name for name in part_of if "copy of" in name]
    assert len(copies) == 8
    return sum(part_of[name] != part_of[name.replace("copy of ", "")] for name in copies)


def test_near_copies_stay_together(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "mine", n=12)
    for label in ("benign", "malignant"):
        for i in range(4):
            copy = np.clip(noise(f"{label}{i}") * 0.8 + 30, 0, 255).astype(np.uint8)
            save(root / label / f"copy of {label} ({i}).png", copy)
    assert [pairs_apart(load_task(f"folder:{root}", 32, seed=s)) for s in range(4)] == [0] * 4
    card = load_task(f"folder:{root}", 32).card
    assert "8 group(s) of near-copies found, which stay together. Other" in card
    alone = lambda images: np.arange(len(images))
    monkeypatch.setattr(folder, "copy_groups", alone)  # the planted mistake
    assert pairs_apart(load_task(f"folder:{root}", 32)) > 0
    monkeypatch.setattr(folder, "COMPARABLE", 20)
    task = load_task(f"folder:{root}", 32)
    assert "Near-copies were not looked for (32 images" in task.card
    assert task.train.near_copies is None


def pairs_of_a_task(root, seed) -> tuple[int, int]:
    """(pairs that `before_training` finds, those in two parts of the task that was loaded)."""
    found = before_training(load_task(f"folder:{root}", 32, seed=seed), names=False)
    return len(found.duplicates), len(found.across)


def test_loading_and_looking_follow_one_rule(tmp_path, monkeypatch):
    """A picture and its mirrored, cut, brighter copy: no patient is known, both stay together."""
    root = make_folder(tmp_path / "mine", n=12)
    for i in range(6):
        whole = Image.fromarray(noise(f"smooth {i}", 8, 8)).resize((64, 64), Image.BICUBIC)
        part = whole.crop((4, 4, 62, 62)).transpose(Image.FLIP_LEFT_RIGHT).resize((64, 64))
        save(root / "benign" / f"whole {i}.png", np.asarray(whole))
        save(root / "benign" / f"part {i}.png", (np.asarray(part) * 0.8 + 30).astype(np.uint8))
    assert [pairs_of_a_task(root, seed) for seed in range(3)] == [(6, 0)] * 3

    def by_pixels(images):  # planted: another rule, which sees no turns and no cuts
        return near_copies(images.float().mean(1).numpy())

    monkeypatch.setattr(folder, "copy_groups", by_pixels)
    assert any(pairs_of_a_task(root, seed)[1] for seed in range(3))


def test_what_looks_alike_is_told(tmp_path):
    root = make_folder(tmp_path / "mine", n=20)
    for label in ("benign", "malignant"):
        for i in range(6):
            save(root / label / f"same {i}.png", noise("same"))
    card = load_task(f"folder:{root}", 16).card
    assert "1 with more than one label; the largest has 12 images" in card


# ---- classes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "classes, positive",
    [
        (("benign", "malignant"), 1),
        (("Positive", "negative"), 0),
        (("良性", "恶性"), 1),
        (("abnormal", "normal"), 0),
        (("malignant", "non-malignant"), 0),
        (("no disease", "some disease"), None),
        (("cancer", "pneumonia"), None),
        (("0", "1"), None),
        (("benign", "malignant", "normal"), None),
    ],
)
def test_the_positive_class(classes, positive):
    assert positive_class(classes) == positive


def test_numbers_are_in_the_order_of_their_values(tmp_path):
    task = load_task(f"folder:{make_folder(tmp_path / 'g', classes=('10', '9', '2'))}", 16)
    assert task.classes == ("2", "9", "10") and task.positive is None
    task = load_task(f"folder:{make_folder(tmp_path / 'h', classes=('0', '1'))}", 16)
    assert 'positive: none (name the class of disease "positive"' in task.card


# ---- folders that cannot be used ----------------------------------------------------------------


def folder_with(*names_and_counts):
    def make(root):
        root.mkdir(parents=True)
        for name, n in names_and_counts:
            make_folder(root, n, (name,))

    return make


def one_image_only(root):
    for label in ("benign", "malignant"):
        for i in range(9):
            save(root / label / f"{i}.png", noise(label))


def damaged(root):
    make_folder(root)
    for file in [*root.glob("benign/*.png")][:6] + [*root.glob("malignant/*.png")][:3]:
        file.write_bytes(b"\x89PNG\r\n\x1a\n")


FOLDERS = {
    "does not exist, and a folder is needed. Expected: a folder a class": lambda root: None,
    "is a file, and a folder is needed": lambda root: root.write_text(""),
    "no image that can be used. It is empty. Expected": folder_with(),
    "no image .* Found: 3 below a class folder: .*benign.1.png": lambda root: [
        save(root / "train" / "benign" / f"{i}.png", noise(str(i))) for i in range(3)
    ],
    "one class only, 'benign', and a classifier needs two": folder_with(("benign", 8)),
    "needs 5 images .* 'b' has 4. Add images": folder_with(("a", 8), ("b", 4)),
    "'benign' has 1, 'malignant' has 1": one_image_only,
    "'Benign' and 'benign' differ only in capital": folder_with(("Benign", 8), ("benign", 8)),
    "9 of 16 images cannot be taken. 9 .* Save these": damaged,
    "has characters without a shape": folder_with(("a\x1b[2J", 8), ("b", 8)),
}


@pytest.mark.parametrize("word", FOLDERS)
def test_a_folder_that_cannot_be_used(tmp_path, word):
    FOLDERS[word](tmp_path / "mine")
    with pytest.raises(DataError, match=f"mine.*{word}"):
        load_task(f"folder:{tmp_path / 'mine'}", 16)


def test_too_few_groups_for_three_parts(tmp_path):
    labels = np.repeat([0, 1], 8)
    rest, test = folder._without_test(tmp_path, labels, np.arange(16), ("a", "b"), 0)
    assert sorted([*rest, *test]) == list(range(16)) and 3 <= len(test) <= 4
    with pytest.raises(DataError, match="one part would lack a class. Add images"):
        folder._without_test(tmp_path, labels, np.arange(16) // 4, ("a", "b"), 0)
    with pytest.raises(DataError, match="beside the test set, 8 images of 2 classes"):
        folder._without_test(tmp_path, np.repeat([0, 1], 5), np.arange(10), ("a", "b"), 0)


def test_where_a_relative_path_lies(tmp_path, monkeypatch):
    make_folder(tmp_path / "mine")
    assert rows(load_task("folder:mine", 16, root=tmp_path))
    monkeypatch.chdir(tmp_path)
    task = load_task("folder: mine/", 16)
    assert task.card.startswith("folder mine: 16 images") and "folder: mine/" in repr(task)
    with pytest.raises(ValueError, match="Name the folder"):
        load_task("folder: ")
    with pytest.raises(ValueError, match="or folder:PATH"):
        load_task("folder")
