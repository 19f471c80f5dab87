"""Slices of the studies, trained anew: kept tables are what the code gives, and mistakes show.

A slice is the same cell for two seeds. It is reproduced if the mean shift, paired by seed, is
within two standard errors, by the spread of this very cell over its seeds in the table: another
processor rounds otherwise, and that moves a run less than another seed does.
"""

import dataclasses
import json
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

from medtl_utils import fine_tune
from medtl_utils.data import Split
from studies import leakage, learning_curve, recipes, shortcut, snippet, transplant
from studies.tables import auc
from tests.conftest import ROOT


@dataclasses.dataclass
class Slice:
    """`cell`: the recipe without its seed; `value`: of a result; `row`: of the table's runs."""

    module: ModuleType
    cell: dict
    value: Callable[[dict], float]
    row: Callable[[dict], float] = lambda run: run["auc"]
    named: dict | None = None  # how the table's runs name the cell, where it is not the recipe

    def kept(self) -> dict[int, float]:
        file = ROOT / "data" / "results" / f"{self.module.STUDY.name}.json"
        runs = json.loads(file.read_text())["runs"]
        wanted = (self.named or self.cell).items()
        return {run["seed"]: self.row(run) for run in runs if wanted <= run.items()}

    def again(self, n_seeds: int) -> dict[int, float]:
        seeds = sorted(self.kept())[:n_seeds]
        return {seed: self.value(self.module.run(seed=seed, **self.cell)) for seed in seeds}


SLICES = {
    "leakage": Slice(
        leakage,
        {"labels": "true", "split": "image"},
        lambda result: result["fresh"],
        lambda run: run["fresh"],
    ),
    "learning_curve": Slice(
        learning_curve,
        {"data": "simulated", "n_train": 600, "source": "ultrasound"},
        lambda result: auc(result["scores"], learning_curve.test_set("simulated")),
    ),
    "recipes": Slice(
        recipes,
        {"data": "simulated", "recipe": "discriminative rates"},
        lambda result: result["auc"],
    ),
    "shortcut": Slice(
        shortcut,
        {"data": "simulated", "recipe": "full", "trained_on": "shortcut"},
        lambda result: auc(result["same habit"], shortcut.test_images("simulated")["plain"]),
        lambda run: run["auc"]["same habit"],
    ),
    "snippet": Slice(
        snippet,
        {"training": "another seed"},
        lambda result: auc(result["another seed"], snippet.test_split()),
        named={"what": "another seed"},
    ),
    "transplant": Slice(
        transplant,
        {"data": "simulated", "kind": "tuned", "k": 5},
        lambda result: auc(result["scores"], transplant.scored_split("simulated")),
    ),
}


def reproduced(kept: dict[int, float], again: dict[int, float]) -> bool:
    """The mean of `again` minus `kept`, paired by seed, is within two standard errors."""
    shift = np.mean([again[seed] - kept[seed] for seed in again])
    return bool(abs(shift) < 2 * np.std(list(kept.values()), ddof=1) / len(again) ** 0.5)


def flattered(kept: dict[int, float], by: float = 0.1) -> dict[int, float]:
    return {seed: value + by for seed, value in kept.items()}


# ---- planted mistakes ----------------------------------------------------------------------------


def half_shuffled(split: Split) -> Split:
    """The labels of every second image are dealt anew."""
    labels, rng = split.labels.clone(), np.random.default_rng(0)
    labels[::2] = labels[::2][torch.from_numpy(rng.permutation(len(labels[::2])))]
    return dataclasses.replace(split, labels=labels)


def with_shuffled_labels(model, task, *a, **k):
    return fine_tune(model, dataclasses.replace(task, train=half_shuffled(task.train)), *a, **k)


def ten_times_too_fast(model, task, *a, lr=1e-3, **k):
    groups = [g | {"lr": 10 * g["lr"]} for g in lr] if isinstance(lr, list) else 10 * lr
    return fine_tune(model, task, *a, lr=groups, **k)


def plant(monkeypatch, module: ModuleType, mistake: str) -> None:
    if mistake == "batch statistics at prediction":
        monkeypatch.setattr(module, "predict", in_training_mode)
    elif module is not snippet:
        wrong = {"labels": with_shuffled_labels, "rate": ten_times_too_fast}[mistake]
        monkeypatch.setattr(module, "fine_tune", wrong)
    elif mistake == "labels":
        right = snippet.train
        wrong = lambda split, *a, **k: right(half_shuffled(split), *a, **k)
        monkeypatch.setattr(module, "train", wrong)
    else:
        adam = torch.optim.Adam
        monkeypatch.setattr(torch.optim, "Adam", lambda p, lr: adam(p, lr=10 * lr))


@torch.no_grad()
def in_training_mode(model, split: Split, *_, **__) -> torch.Tensor:
    """BatchNorm by small batches as they lie: patient by patient, which gives her away."""
    model.train()
    parts = [model(model.normalisation(images)) for images in split.images.split(4)]
    return torch.cat(parts).float().softmax(1)


# ---- the slices ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SLICES)
def test_one_seed_of_a_study_is_reproduced(name):
    """The fast tier: one cell, and a table that is flattered by 0.1."""
    kept, again = SLICES[name].kept(), SLICES[name].again(1)
    assert reproduced(kept, again), (kept, again)
    assert not reproduced(flattered(kept), again)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLICES)
def test_two_seeds_of_a_study_are_reproduced(name):
    kept, again = SLICES[name].kept(), SLICES[name].again(2)
    assert reproduced(kept, again), (kept, again)
    assert not reproduced(flattered(kept, 0.06), again)


MISTAKES = ("labels", "rate", "batch statistics at prediction")


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", SLICES)
def test_the_slice_test_bites(name, mistake, monkeypatch):
    """Half of the labels dealt anew, a rate ten times too high, BatchNorm left in training mode."""
    plant(monkeypatch, SLICES[name].module, mistake)
    kept, again = SLICES[name].kept(), SLICES[name].again(2)
    assert not reproduced(kept, again), (kept, again)
