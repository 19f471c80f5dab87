"""The design of the evidence on busi: who is tested and labelled, and how long each arm learns."""

from collections import Counter

import numpy as np
import pytest
import torch

from medtl_utils import load_model, predict
from medtl_utils.data import Split
from studies import evidence, evidence_plan
from studies.evidence_plan import DRAWS, FOLDS, PRIMARY, RECIPES, REPETITIONS
from tests.conftest import make_split

SIZES = tuple(DRAWS)


def is_a_partition(test_rows) -> bool:
    """Each repetition tests every image once, and no group lies in two folds."""
    group = evidence.images()[0].groups
    for repetition in REPETITIONS:
        parts = [test_rows(repetition, k) for k in FOLDS]
        if not np.array_equal(np.sort(np.concatenate(parts)), np.arange(780)):
            return False
        where = Counter(g for part in parts for g in np.unique(group[part]).tolist())
        if max(where.values()) > 1:
            return False
    return True


def image_by_image(repetition: int, fold: int) -> np.ndarray:
    """Planted: images are dealt to folds, and not groups."""
    return np.flatnonzero(np.arange(780) % 5 == fold)


def test_every_image_is_tested_once_in_each_repetition():
    assert is_a_partition(evidence.test_rows) and not is_a_partition(image_by_image)
    folds = [{tuple(evidence.test_rows(r, k)) for k in FOLDS} for r in REPETITIONS]
    assert not folds[0] & folds[1] and not folds[1] & folds[2]


@pytest.mark.parametrize("n", SIZES)
def test_labelled_images_have_no_copy_among_the_tested(n):
    whole, _ = evidence.images()
    for repetition in REPETITIONS:
        for fold in FOLDS:
            rows = evidence.labelled_rows(repetition, fold, n, 0)
            tested = evidence.test_rows(repetition, fold)
            assert len(np.unique(rows)) == len(rows) == (n or 780 - len(tested))
            assert not np.isin(whole.groups[rows], whole.groups[tested]).any()
            share = float((whole.labels[rows] == 1).float().mean())
            low, high = (0.08, 0.5) if n in (25, 50) else (0.2, 0.34)
            assert low < share < high  # 210 of 780 are malignant; groups are drawn whole
    if n is not None:
        assert set(evidence.labelled_rows(0, 0, n, 0)) != set(evidence.labelled_rows(0, 0, n, 1))


def test_every_arm_has_one_recipe_and_scratch_learns_at_least_as_long():
    cells = evidence.cells()
    recipes = {(c["arm"], c["n"]): {str(o["recipe"]) for o in cells} for c in cells}
    for (arm, n), _ in recipes.items():
        own = [c["recipe"] for c in cells if (c["arm"], c["n"]) == (arm, n)]
        assert all(recipe == own[0] for recipe in own)
    for n in SIZES:
        scratch, transfer = RECIPES["scratch"][n], RECIPES["transfer"][n]
        assert scratch["epochs"] >= transfer["epochs"]
        assert scratch["batch_size"] == transfer["batch_size"]
    assert len(cells) == len(PRIMARY) * len(SIZES) * len(REPETITIONS) * len(FOLDS)


def toy_images() -> tuple[Split, np.ndarray]:
    """60 images whose class is their brightness."""
    split = make_split("x", 60, size=32)
    light = torch.where(split.labels == 1, 140, 60)[:, None, None, None]
    split.images[:] = (light + torch.randint(-20, 20, split.images.shape)).to(torch.uint8)
    split.patients = None
    split.near_copies = np.arange(60)
    return split, np.arange(60) % 5


def test_a_cell_holds_the_scores_of_its_fold(monkeypatch):
    """Each draw trains its own network, from the file of its arm and repetition."""
    asked = []
    monkeypatch.setattr(evidence, "images", toy_images)
    monkeypatch.setattr(
        evidence, "weights_of", lambda *a: asked.append(a) or evidence_plan.data_folder() / SHIPPED
    )
    recipe = {"epochs": 3, "batch_size": 8, "lr": 1e-3, "batchnorm": "eval"}
    found = evidence.run("ultrasound", 25, 0, 2, 2, recipe)
    assert found["scores"].shape == found["mirrored"].shape == (2, 12)
    assert found["losses"].shape == (2, 3)
    assert asked == [("ultrasound", 0)] * 2 and found["updates"] == 9  # 25 = 3 x 8 + 1
    assert not np.allclose(found["scores"][0], found["scores"][1])
    start = evidence.start("ultrasound", 0, "eval")
    kept = load_model(evidence_plan.data_folder() / SHIPPED)
    assert torch.equal(start.layer4[1].conv2.weight, kept.layer4[1].conv2.weight)
    whole, _ = toy_images()
    assert predict(start, whole).shape == (60, 2)


SHIPPED = "ultrasound_resnet18.safetensors"
