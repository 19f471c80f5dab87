"""Chapter 03: the widget of weight and prevalence, and the copy cell on RGB and three classes."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import special

import medtl_utils as mt
from medtl_utils import widgets
from medtl_utils.data import Split
from tests.chapters import notebook_code
from tests.conftest import picture


def shifts_are_scipys(prevalence=0.3) -> bool:
    """The three numbers of the caption against SciPy's logit, for all settings of some sliders."""
    box, right, pictures = widgets.probability_shift(prevalence), [], set()
    weight, percent = box.children[:2]
    for place, factor in enumerate(weight.choices):
        for there in (1, 5, 80):
            weight.value, percent.value = place, there
            by_prevalence = special.logit(there / 100) - special.logit(prevalence)
            marked = special.logit(0.2) + np.array([np.log(factor), by_prevalence])
            want = [*special.expit(marked), special.expit(-np.log(factor))]
            page = picture(box)
            words = re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", page))
            found = [float(number) for number in re.findall(r"0\.\d{3}\b", words)]
            right.append(len(found) == 3 and np.allclose(found, want, atol=6e-4))
            pictures.add(page)
    return all(right) and len(pictures) == len(right)


def test_probability_shift(shown, monkeypatch):
    assert shifts_are_scipys()
    wrong = lambda p, factor: np.minimum(p * factor, 1)  # planted: the probability is multiplied
    monkeypatch.setattr("medtl_utils.widgets.chapter_03._with_odds_times", wrong)
    assert not shifts_are_scipys()


@pytest.mark.parametrize("prevalence", [0, 1, 27])
def test_only_shares(shown, prevalence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        widgets.probability_shift(prevalence)


def rgb_of_three_classes() -> SimpleNamespace:
    """A task of 40 RGB images; class 0 is common, class 2 rare."""
    rng = np.random.default_rng(4)
    labels = torch.tensor(rng.choice(3, 40, p=[0.6, 0.25, 0.15]))
    images = torch.tensor(rng.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8))
    whole = Split("train", images, labels, ("normal", "benign", "malignant"))
    return SimpleNamespace(train=whole, val=whole[:30], classes=whole.classes, positive=None)


def copied(monkeypatch, right="", wrong="") -> dict:
    """The names that the copy cell leaves on the task above; a mistake is planted if one is given.

    The network is not trained: its scores are those of a model that says the weighted shares.
    """
    (cell,) = [c for c in notebook_code._cells("03") if "copy" in c.metadata.get("tags", [])]
    source = notebook_code.plant(cell.source, right, wrong) if right else cell.source
    task, space = rgb_of_three_classes(), {}

    def says_the_weighted_shares(model, split):
        weights = space["weight"]
        said = space["counts"] * weights / (space["counts"] * weights).sum()
        return said.expand(len(split), -1)

    monkeypatch.setattr(mt, "load_task", lambda *args, **more: task)
    monkeypatch.setattr(mt, "fine_tune", lambda *args, **more: None)
    monkeypatch.setattr(mt, "predict", says_the_weighted_shares)
    exec(source, space)
    return space


def is_honest(space: dict) -> bool:
    """A model that says the weighted shares for everybody must say the shares afterwards."""
    share = space["counts"] / space["counts"].sum()
    return torch.allclose(space["honest"], share.expand(30, -1), atol=1e-6)


def test_the_copy_cell_takes_back_the_weights_of_three_classes(monkeypatch, capsys):
    assert is_honest(copied(monkeypatch))
    assert "shift taken back" in capsys.readouterr().out
    assert not is_honest(copied(monkeypatch, "honest = weighted / weight", "honest = weighted"))
    assert not is_honest(copied(monkeypatch, "weighted / weight", "weighted * weight"))
