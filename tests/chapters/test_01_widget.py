"""Notebook 01: the descriptor explorer against counts and outputs taken apart by hand."""

import copy
import importlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from medtl_utils import phantom, replace_head, source_model, widgets
from medtl_utils.phantom_tables import COUNTS
from tests.chapters.test_widgets import planted, said
from tests.conftest import picture


@pytest.fixture(scope="module")
def namer():
    """A network without knowledge whose outputs are read as the source's: 23, in this order."""
    torch.manual_seed(3)
    model = replace_head(source_model("random"), 23)
    sizes = {name: len(values) for name, values in phantom.DESCRIPTORS.items()} | {"lesion": 2}
    model.heads = {"sizes": sizes}
    return model.train()


SIGNS = {  # "other signs": orientation, calcifications, halo
    "none": (0, 0, 0),
    "not parallel": (1, 0, 0),
    "calcifications": (0, 1, 0),
    "halo": (0, 0, 1),
    "all three": (1, 1, 1),
}


def counted(seen: dict[str, int], percent: int) -> float:
    """P(malignant): the women of each class who look like this, in a population of that class."""
    hers = [1 - percent / 100, percent / 100]
    for names, tables in COUNTS.items():
        for label, table in enumerate(tables):
            table = np.array(table) + 0.5
            hers[label] *= table[tuple(seen[n] for n in names)] / table.sum()
    return hers[1] / sum(hers)


def model_by_hand(model, seen: dict[str, int]) -> dict[str, float]:
    """The model's probability of each value: its 23 outputs cut by hand, exponentials by hand."""
    image, _ = phantom.simulate_lesion(seen, 155)
    with torch.no_grad():
        outputs = copy.deepcopy(model).eval()(model.normalisation(image[None]))[0].double()
    names, ends = list(phantom.DESCRIPTORS), np.cumsum([3, 5, 2, 4, 3, 2, 2])
    parts = {n: outputs[end - len(phantom.DESCRIPTORS[n]) : end] for n, end in zip(names, ends)}
    return {n: float(parts[n][k].exp() / parts[n].exp().sum()) for n, k in seen.items()}


def explorer_is_bayes_and_the_model(model) -> Iterator[bool]:
    box = widgets.descriptor_explorer(phantom.CHANCES, phantom.DESCRIPTORS, model)
    *descriptors, others, prevalence = box.children[:-1]
    names = [control.label for control in descriptors]
    pictures = set()
    for *at, other, percent in (
        (0, 0, 0, 0, 0, 40),
        (2, 2, 0, 1, 1, 20),
        (2, 4, 3, 2, 4, 1),
        (1, 3, 2, 1, 2, 60),
        (1, 3, 2, 1, 3, 60),
    ):
        for control, value in zip((*descriptors, others, prevalence), (*at, other, percent)):
            control.value = value
        signs = dict(zip(("orientation", "calcifications", "halo"), list(SIGNS.values())[other]))
        seen = dict(zip(names, at)) | signs
        p = counted(seen, percent)
        want = f"{100 * p:.1f} %" if 0.0005 <= p < 0.9995 else "over 99.9 %"
        yield f"The probability of malignancy is {want}." in said(box)
        for name, its in model_by_hand(model, seen).items():
            yield f"{name}: {phantom.DESCRIPTORS[name][seen[name]]} {its:.2f}" in said(box)
        pictures.add(picture(box))
    yield len(pictures) == 5 and model.training


def test_descriptor_explorer(shown, monkeypatch, namer):
    assert all(explorer_is_bayes_and_the_model(namer))
    chapter = importlib.import_module("medtl_utils.widgets.chapter_01")
    named = chapter._named_by
    for name, wrong in (
        ("SIGNS", ("halo", "calcifications", "orientation")),
        ("_named_by", lambda model, image: named(model, 255 - image)),
        ("simulate_lesion", lambda seen, seed: phantom.simulate_lesion(seen, seed + 1)),
    ):
        with monkeypatch.context() as one:
            planted(one, "chapter_01", name, wrong)
            assert not all(explorer_is_bayes_and_the_model(namer)), name


def test_a_model_without_heads_says_nothing(shown):
    model = source_model("random")
    box = widgets.descriptor_explorer(phantom.CHANCES, phantom.DESCRIPTORS, model)
    assert "The probability of malignancy is 0.9 %. This model names no descriptors." in said(box)
