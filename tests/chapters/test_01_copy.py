"""Notebook 01: the copy cell on RGB images of three classes, whose networks are not trained."""

import pytest
import torch

import medtl_utils as mt
from medtl_utils.data import Task
from tests.chapters import notebook_code
from tests.conftest import make_split


def copied(monkeypatch, *mistakes) -> tuple[dict, list]:
    """The names that the cell leaves, and (source, images learnt from, epochs) of each training.

    A network from "ultrasound" names every image rightly, one from scratch says the same of all.
    """
    (cell,) = [c for c in notebook_code._cells("01") if "copy" in c.metadata.get("tags", [])]
    source = cell.source
    for right, wrong in mistakes:
        source = notebook_code.plant(source, right, wrong)
    three = {"n": 60, "classes": ("a", "b", "c"), "positive": None}
    train, val = make_split("train", **three), make_split("val", seed=1, **three)
    for split in (train, val):
        split.images = split.images.repeat(1, 3, 1, 1)
    trained, make = [], mt.source_model

    def marked(name):
        model = make("random")
        model.name = name
        return model

    def train_none(model, task, epochs, *others, **more):
        trained.append((model.name, task.train.images, epochs))

    def answers(model, split):
        right = torch.nn.functional.one_hot(split.labels, 3).float()
        return right if model.name == "ultrasound" else torch.full_like(right, 1 / 3)

    monkeypatch.setattr(mt, "load_task", lambda *a, **k: Task("three", train, val, "a card"))
    monkeypatch.setattr(mt, "source_model", marked)
    monkeypatch.setattr(mt, "fine_tune", train_none)
    monkeypatch.setattr(mt, "predict", answers)
    space: dict = {}
    exec(source, space)
    return space, trained


def pairs_are_fair(space: dict, trained: list) -> bool:
    """Each pair learns from the same images as long, another pair from others; the gain is 0.5."""
    pairs = list(zip(trained[::2], trained[1::2]))
    same = all(a[0] != b[0] and torch.equal(a[1], b[1]) and a[2] == b[2] for a, b in pairs)
    others = not torch.equal(pairs[0][0][1], pairs[1][0][1])
    return same and others and abs(space["gain"]["difference"] - 0.5) < 1e-6


def test_the_copy_cell_is_fair_to_both_starts(monkeypatch, capsys):
    assert pairs_are_fair(*copied(monkeypatch))
    assert "AUC 0.50 from scratch, 1.00 with transfer" in capsys.readouterr().out


@pytest.mark.parametrize(
    "mistake",
    [
        ('scores["ultrasound"], scores["random"]', 'scores["random"], scores["ultrasound"]'),
        ("default_rng(seed)", "default_rng(0)"),
        ("few, 2, rates", 'few, 2 + (source == "random"), rates'),
    ],
    ids=["gain upside down", "one draw three times", "longer from scratch"],
)
def test_the_copy_test_bites(mistake, monkeypatch):
    assert not pairs_are_fair(*copied(monkeypatch, mistake))
