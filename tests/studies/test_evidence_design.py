"""The design of the evidence on busi: who is tested and labelled, and how long each arm learns."""

import dataclasses
import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medtl_utils import load_model, load_task, predict
from medtl_utils.data import DataError, Split
from medtl_utils.datasets import busi
from medtl_utils.paths import data_folder
from studies import cache, evidence, evidence_data, evidence_fit, evidence_plan, official, runner
from studies.evidence_data import FOLDS
from studies.evidence_plan import ARMS, DRAWS, PRIMARY, REPETITIONS, recipe_of
from tests.conftest import make_split

SIZES = tuple(DRAWS)


def is_a_partition(test_rows) -> bool:
    """Each repetition tests every image once, and no group lies in two folds."""
    group = evidence_data.whole("busi", 64).groups
    for repetition in REPETITIONS:
        parts = [test_rows("busi", repetition, k) for k in FOLDS]
        if not np.array_equal(np.sort(np.concatenate(parts)), np.arange(780)):
            return False
        where = Counter(g for part in parts for g in np.unique(group[part]).tolist())
        if max(where.values()) > 1:
            return False
    return True


def image_by_image(data: str, repetition: int, fold: int) -> np.ndarray:
    """Planted: images are dealt to folds, and not groups."""
    return np.flatnonzero(np.arange(780) % 5 == fold)


def test_every_image_is_tested_once_in_each_repetition():
    assert is_a_partition(evidence_data.test_rows) and not is_a_partition(image_by_image)
    folds = [{tuple(evidence_data.test_rows("busi", r, k)) for k in FOLDS} for r in REPETITIONS]
    assert not folds[0] & folds[1] and not folds[1] & folds[2]


@pytest.mark.parametrize("n", SIZES)
def test_labelled_images_have_no_copy_among_the_tested(n):
    whole = evidence_data.whole("busi", 64)
    for repetition in REPETITIONS:
        for fold in FOLDS:
            rows = evidence_data.labelled_rows("busi", repetition, fold, n, 0)
            tested = evidence_data.test_rows("busi", repetition, fold)
            assert len(np.unique(rows)) == len(rows) == (n or 780 - len(tested))
            assert not np.isin(whole.groups[rows], whole.groups[tested]).any()
            share = float((whole.labels[rows] == 1).float().mean())
            low, high = (0.08, 0.5) if n in (25, 50) else (0.2, 0.34)
            assert low < share < high  # 210 of 780 are malignant; groups are drawn whole
    if n is not None:
        drawn = [set(evidence_data.labelled_rows("busi", 0, 0, n, draw)) for draw in (0, 1)]
        assert drawn[0] != drawn[1]


def test_every_arm_has_one_recipe_and_scratch_learns_at_least_as_long():
    cells = evidence.cells()
    recipes = {(c["arm"], c["n"]): {str(o["recipe"]) for o in cells} for c in cells}
    for (arm, n), _ in recipes.items():
        own = [c["recipe"] for c in cells if (c["arm"], c["n"]) == (arm, n)]
        assert all(recipe == own[0] for recipe in own)
    for n in SIZES:
        scratch, *others = (recipe_of(arm, n) for arm in ARMS if not arm.endswith("probe"))
        for other in others:
            assert scratch["epochs"] >= other["epochs"]
            assert scratch["batch_size"] == other["batch_size"]
    assert len(cells) == len(PRIMARY) * len(SIZES) * len(REPETITIONS) * len(FOLDS)


def toy_images(data: str = "toy", size: int = 32) -> Split:
    """60 images whose class is their brightness."""
    split = make_split("x", 60, size=32)
    light = torch.where(split.labels == 1, 140, 60)[:, None, None, None]
    split.images[:] = (light + torch.randint(-20, 20, split.images.shape)).to(torch.uint8)
    split.patients = None
    split.near_copies = np.arange(60)
    return split


def test_a_cell_holds_the_scores_of_its_fold(monkeypatch):
    """Each draw trains its own network, from the file of its arm and repetition."""
    asked = []
    monkeypatch.setattr(evidence, "whole", toy_images)
    monkeypatch.setattr(evidence, "test_rows", lambda *a: np.arange(60)[2::5])
    monkeypatch.setattr(
        evidence, "labelled_rows", lambda d, r, f, n, draw: np.arange(60)[draw : draw + 25]
    )
    monkeypatch.setattr(
        evidence_fit, "weights_of", lambda *a: asked.append(a) or data_folder() / SHIPPED
    )
    recipe = evidence_plan.TRANSFER | {"epochs": 3, "batch_size": 8}
    found = evidence.run("toy", "ultrasound", 25, 0, 2, 2, recipe)
    assert found["scores"].shape == found["mirrored"].shape == (2, 12)
    assert found["losses"].shape == (2, 3)
    assert asked == [("ultrasound", 0)] * 2 and found["updates"] == 9  # 25 = 3 x 8 + 1
    assert not np.allclose(found["scores"][0], found["scores"][1])
    start = evidence_fit.start("ultrasound", 0)
    kept = load_model(data_folder() / SHIPPED)
    assert torch.equal(start.layer4[1].conv2.weight, kept.layer4[1].conv2.weight)
    assert predict(start, toy_images()).shape == (60, 2)
    probed = evidence.run("toy", "ultrasound, probe", 25, 0, 2, 1, evidence_plan.PROBE)
    assert probed["updates"] == 0 and probed["scores"].shape == (1, 12)


SHIPPED = "ultrasound_resnet18.safetensors"


def pairs_up(coarse: torch.Tensor) -> bool:
    """Each 28-pixel image is that of the fine image in its row, near-copies apart."""
    small = lambda x: torch.nn.functional.adaptive_avg_pool2d(x.float(), 16).flatten(1)
    scaled = lambda x: torch.nn.functional.normalize(x - x.mean(1, keepdim=True), dim=1)
    fine = scaled(small(evidence_data.whole("busi", 64).images))
    own = (scaled(small(coarse)) * fine).sum(1)
    return bool(own.min() > 0.95)


def test_breastmnist_has_the_rows_of_busi():
    coarse = evidence_data.whole("breastmnist", 64)
    assert pairs_up(coarse.images) and not pairs_up(coarse.images.roll(1, 0))
    assert torch.equal(coarse.labels, evidence_data.whole("busi", 64).labels)


def test_retina_folds_keep_copies_together():
    split = evidence_data.whole("retinamnist", 64)
    assert len(split) == 1200 and 0.3 < float(split.labels.float().mean()) < 0.6
    parts = [evidence_data.test_rows("retinamnist", 0, k) for k in FOLDS]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1200))
    where = Counter(g for part in parts for g in np.unique(split.groups[part]).tolist())
    assert max(where.values()) == 1


def splits_officially(parts) -> bool:
    """The official test images, malignant = 1, and all others."""
    train, test = parts()
    task = load_task("breastmnist", size=64)
    whole = task.open_test("test of the official split", reopen=True)
    ours = torch.sort(test.images.flatten(1).sum(1)).values
    theirs = torch.sort(whole.images.flatten(1).sum(1)).values
    return (
        (len(train), len(test)) == (624, 156)
        and torch.equal(ours, theirs)
        and int((test.labels == 1).sum()) == 42
    )


def test_the_official_split_is_the_official_one():
    assert splits_officially(official.parts)
    assert not splits_officially(lambda: official.parts()[::-1])


def test_official_rows_are_aucs_and_their_differences():
    """Three trainings an arm; without copies there are fewer images."""
    _, test = official.parts()
    positive, rng = test.labels.numpy() == 1, np.random.default_rng(0)
    results = [(cell, {"scores": rng.random((1, 156))}) for cell in official.STUDY.cells]
    rows = official.table(results)["rows"]
    mean = {
        arm: np.mean(
            [roc_auc_score(positive, a["scores"][0]) for c, a in results if c["arm"] == arm]
        )
        for arm in PRIMARY
    }
    everything = [row for row in rows if row["images"] == "all"]
    assert len(everything) == 5 and all(row["n"] == 156 for row in everything)
    for row in everything:
        wanted = mean[row["arm"]] - (mean[row["against"]] if row["against"] else 0)
        assert row["value"] == pytest.approx(wanted)
    images = busi.read_table()
    labelled = {g for g, part in zip(images["group"], images["breastmnist"]) if part != "test"}
    alone = [g not in labelled for g in test.groups.tolist()]
    assert {row["n"] for row in rows if row["images"] == "clear"} == {sum(alone)}


def test_only_the_trainings_of_the_plan_are_used(monkeypatch, tmp_path):
    """Another file of the right name is refused, with the command that makes the right one."""
    right, other = b"the training", b"another training"
    digests = tuple(hashlib.sha256(content).hexdigest() for content in (right, b"", b""))
    monkeypatch.setattr(evidence_plan, "SOURCES", {"shapes": digests})
    monkeypatch.setattr(evidence_plan, "cache_folder", lambda: tmp_path)
    file = tmp_path / "v2" / "shapes_resnet18.safetensors"
    file.parent.mkdir()
    for content in (None, other):
        if content:
            file.write_bytes(content)
        with pytest.raises(DataError, match="--task shapes --seed 0"):
            evidence_plan.weights_of("shapes", 0)
    file.write_bytes(right)
    assert evidence_plan.weights_of("shapes, probe", 0) == file
    assert evidence_plan.weights_of("scratch", 0) is None


def test_a_digest_needs_no_file(monkeypatch, tmp_path):
    """What a cell starts from is known where no weights lie; the file that is used has it."""
    monkeypatch.setattr(evidence_plan, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(evidence_plan, "data_folder", lambda: tmp_path)
    for arm, repetition in ((a, r) for a in ARMS for r in REPETITIONS):
        known = evidence_plan.SOURCES.get(ARMS[arm][0])
        assert evidence_plan.digest_of(arm, repetition) == (known[repetition] if known else None)
    with pytest.raises(DataError):
        evidence_plan.weights_of("ultrasound", 0)


def kept_without_weights(monkeypatch, tmp_path, first_letter=None) -> int:
    """How many of the first repetition's cells are read from the archive where no weights lie."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(evidence_plan, "weights_of", lambda *a: pytest.fail("a file is wanted"))
    cells = [c for c in evidence.STUDY.cells if (c["repetition"], c["n"]) == (0, 25)]
    study = dataclasses.replace(evidence.STUDY, cells=cells)
    if first_letter:
        right = study.weights
        wrong = lambda cell: right(cell) and first_letter + right(cell)[1:]
        study = dataclasses.replace(study, weights=wrong)
    return len(runner.kept(study))


def test_kept_cells_are_read_without_the_files_of_the_weights(monkeypatch, tmp_path):
    assert kept_without_weights(monkeypatch, tmp_path) == len(PRIMARY) * len(FOLDS)
    with pytest.raises(SystemExit, match="10 cells are missing"):  # scratch needs no weights
        kept_without_weights(monkeypatch, tmp_path, first_letter="x")


def test_the_plan_names_six_trainings():
    digests = [d for trainings in evidence_plan.SOURCES.values() for d in trainings]
    assert len(set(digests)) == 6 and all(len(d) == 64 for d in digests)
