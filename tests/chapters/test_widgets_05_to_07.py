"""Widgets of chapters 05 to 07 against another source of the same truth, with a planted mistake."""

import importlib
import re
from collections.abc import Iterator

import torch

from medtl_utils import widgets
from tests.chapters.test_widgets import planted, said
from tests.conftest import make_split, picture


def case_is_its_own() -> Iterator[bool]:
    """Probability, rank, truth and outline of each case; images 0 and 1 have no mask."""
    split, p = make_split("test", 6), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    split.masks = torch.zeros(6, 32, 32, dtype=torch.bool)
    split.masks[2:, 8:16, 8:16] = True
    box = widgets.case_viewer(split, p)
    pictures = set()
    for image in range(6):
        box.children[0].value = image
        truth = split.classes[int(split.labels[image])]
        yield f"Image {image} gets a probability of {p[image]:.2f} of being malig" in said(box)
        yield f"more than {image} of the 6 images do; in truth it is {truth}." in said(box)
        yield ("outline of the lesion" in said(box)) == (image > 1)
        pictures.add(picture(box))
    yield len(pictures) == 6


def test_case_viewer(shown, monkeypatch):
    assert all(case_is_its_own())
    explore = widgets.explore
    stuck = lambda draw, **controls: explore(lambda image: draw(0), **controls)
    planted(monkeypatch, "chapter_05", "explore", stuck)
    assert not all(case_is_its_own())


def scored(n: int = 200):
    split, p = make_split("test", n), torch.linspace(0.05, 0.95, n)
    return torch.stack([1 - p, p], 1), split


def rates_are_counted() -> Iterator[bool]:
    """Counts and rates at 40 % prevalence against counting by hand and Bayes' rule."""
    scores, split = scored()
    box = widgets.threshold_explorer(scores, split)
    threshold = box.children[0]
    p, y = scores[:, 1].numpy(), split.labels.numpy() == 1
    for percent in (50, 30, 80):
        threshold.value = percent
        sens, spec = (p[y] >= percent / 100).mean(), (p[~y] < percent / 100).mean()
        ppv = 0.4 * sens / (0.4 * sens + 0.6 * (1 - spec))
        npv = 0.6 * spec / (0.6 * spec + 0.4 * (1 - sens))
        found = round(400 * sens)
        yield f"{found} found, {400 - found} missed" in said(box)
        for name, rate in zip(("sensitivity", "specificity", "PPV", "NPV"), (sens, spec, ppv, npv)):
            value, low, high = re.search(rf"{name} (\S+) % \((\S+) to (\S+)\)", said(box)).groups()
            yield value == f"{100 * rate:.1f}"
            yield float(low) <= float(value) <= float(high)


def test_threshold_explorer(shown, monkeypatch):
    assert all(rates_are_counted())
    rates = importlib.import_module("medtl_utils.widgets.chapter_06")._rates
    of_the_set = lambda called, y, weights, ill: rates(called, y, weights, y.mean())
    planted(monkeypatch, "chapter_06", "_rates", of_the_set)
    assert not all(rates_are_counted())


def test_threshold_explorer_at_its_ends(shown):
    box = widgets.threshold_explorer(*scored())
    threshold, prevalence = box.children[:2]
    pictures = [picture(box)]
    for control, value in (
        (threshold, 69),
        (threshold, 99),
        (threshold, 1),
        (prevalence, 4),
        (prevalence, 6),
    ):
        control.value = value
        pictures.append(picture(box))
        assert 'role="alert"' not in picture(box) and "NaN" not in picture(box)
    assert len(set(pictures)) == len(pictures)
    sorted_into = "5 found, 0 missed, 995 false alarms, 0 cleared"
    assert f"Of 1,000 people 5 are ill. With a threshold of 1 %: {sorted_into}" in said(box)


def marked():
    """Six images; kind "fine" lies in the lesion for one model, beside it for the other.

    The last image has no lesion, and the map "coarse" is empty.
    """
    split = make_split("fresh", 6)
    split.masks = torch.zeros(6, 32, 32, dtype=torch.bool)
    split.masks[:5, 8:16, 8:16] = True
    inside, outside = torch.zeros(6, 32, 32), torch.zeros(6, 32, 32)
    inside[:, 10, 10], inside[:, 20, 20], outside[:, 30, 30] = 3.0, 1.0, 1.0
    empty = torch.zeros(6, 32, 32)
    maps = {
        "clean": {"fine": inside, "coarse": empty},
        "shortcut": {"fine": outside, "coarse": empty},
    }
    return split, maps, {"clean": [0.1] * 6, "shortcut": torch.linspace(0.2, 0.7, 6)}


def maps_are_measured_against_the_lesion() -> Iterator[bool]:
    box = widgets.explanation_viewer(*marked())
    image, kind = box.children[:2]
    pictures = set()
    clean, other = "The clean model says 0.10 for malignant. ", "The shortcut model says "
    for i, k, words in (
        (0, 0, "Image 0, in truth benign; map: fine. "),
        (0, 0, clean + "Its highest point (X) lies inside the lesion (dashed), which holds 75%"),
        (0, 0, other + "0.20 for malignant. Its highest point (X) lies outside the lesion"),
        (0, 0, "which holds 0% of the map"),
        (3, 1, other + "0.50 for malignant. Its map is empty: nothing speaks for the class."),
        (5, 0, clean + "There is no lesion in the picture, and the map lights up."),
    ):
        image.value, kind.value = i, k
        yield words in said(box)
        pictures.add(picture(box))
    yield len(pictures) == 3


def test_explanation_viewer(shown, monkeypatch):
    assert all(maps_are_measured_against_the_lesion())
    split, maps, probabilities = marked()
    split.masks = None  # nothing is claimed about a lesion that nobody outlined
    assert "lesion" not in said(widgets.explanation_viewer(split, maps, probabilities))
    planted(monkeypatch, "chapter_07", "_peak", lambda heat: (30, 30))
    assert not all(maps_are_measured_against_the_lesion())


def test_explanation_viewer_without_a_static_figure(shown):
    widgets.explanation_viewer(*marked())
    with_figure = len(shown)
    widgets.explanation_viewer(*marked(), static=False)
    assert with_figure == 3 and len(shown) == with_figure + 1
