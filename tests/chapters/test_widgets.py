"""Widgets of chapters 00 to 04 against another source of the same truth, with a planted mistake."""

import copy
import html
import importlib
import json
import math
import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from medtl_utils import phantom, source_model, widgets
from medtl_utils.models import BLOCKS
from medtl_utils.paths import data_folder
from tests.conftest import make_split, picture


def said(box) -> str:
    """The caption that the widget shows at the moment, or an error's words."""
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))


def planted(monkeypatch, module: str, name: str, wrong) -> None:
    """Replace `name` (or "Class.name") of a chapter's file by something wrong."""
    monkeypatch.setattr(f"medtl_utils.widgets.{module}.{name}", wrong)


# ---- chapters 00 and 01 ------------------------------------------------------------------------


def curve() -> dict:
    return json.loads((data_folder() / "results" / "learning_curve.json").read_text())


def curve_says_the_tables_rows() -> Iterator[bool]:
    table = curve()
    box = widgets.transfer_against_n(table, test="simulated")
    rows = {(r["n_train"], r["source"]): r for r in table["summary"] if r["test"] == "simulated"}
    pictures = set()
    for place, n in enumerate((25, 50, 100, 600)):
        box.children[0].value = place
        pictures.add(picture(box))
        u, d = rows[n, "ultrasound"], rows[n, "digits"]
        for words in (
            f"With {n} labelled simulated images the AUC is {u['b']:.2f} from scratch",
            f"{u['a']:.2f} with ultrasound",
            f"{d['a']:.2f} with digits, a gain of {d['difference']:+.2f} "
            f"({d['low']:+.2f} to {d['high']:+.2f})",
        ):
            yield words in said(box)
    yield len(pictures) == 4 and box.children[0].max == 3


def test_transfer_against_n(shown, monkeypatch):
    assert all(curve_says_the_tables_rows())
    backwards = lambda row: f"{-row['difference']:+.2f} ({-row['high']:+.2f} to {-row['low']:+.2f})"
    planted(monkeypatch, "chapter_00", "_gain", backwards)
    assert not all(curve_says_the_tables_rows())


def test_transfer_against_n_of_one_source(shown):
    row = {"metric": "auc", "test": "official", "a": 0.8, "b": 0.7}
    row |= {"difference": 0.1, "low": 0.0, "high": 0.2}
    table = {"summary": [{**row, "n_train": n} for n in (25, 100)]}
    box = widgets.transfer_against_n(table)
    box.children[0].value = 1
    assert "With 100 labelled real images the AUC is 0.70 from scratch and 0.80" in said(box)
    with pytest.raises(ValueError, match="It has: official"):
        widgets.transfer_against_n(table, test="official, twin-free")


def posterior_is_bayes() -> Iterator[bool]:
    box = widgets.posterior_by_descriptor(phantom.LIKELIHOODS, phantom.DESCRIPTORS)
    *descriptors, others, prevalence = box.children[:-1]
    names = [control.label for control in descriptors] + ["orientation", "calcifications", "halo"]
    signs = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
    pictures = set()
    for *seen, other, percent in (
        (0, 0, 0, 0, 40),
        (3, 2, 2, 4, 1),
        (3, 0, 2, 4, 60),
        (0, 2, 1, 1, 1),
        (1, 1, 1, 2, 42),
        (1, 1, 1, 3, 42),
    ):
        for control, value in zip((*descriptors, others, prevalence), (*seen, other, percent)):
            control.value = value
        joint = []
        for label, prior in enumerate((1 - percent / 100, percent / 100)):
            chances = zip(names, (*seen, *signs[other]))
            likelihood = [phantom.LIKELIHOODS[name][label][k] for name, k in chances]
            joint.append(prior * math.prod(likelihood))
        want = joint[1] / sum(joint)
        yield f"probability of malignancy is {want:.2f}" in said(box)
        pictures.add(picture(box))
    yield len(pictures) == 6


def test_posterior_by_descriptor(shown, monkeypatch):
    assert all(posterior_is_bayes())
    box = widgets.posterior_by_descriptor(phantom.LIKELIHOODS, phantom.DESCRIPTORS)
    assert "orientation parallel 0.54" in said(box)
    planted(monkeypatch, "chapter_01", "SIGNS", ("halo", "calcifications", "orientation"))
    assert not all(posterior_is_bayes())


# ---- chapter 02 --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source():
    return source_model("ultrasound")


def maps_by_hand(model, layer: str, image: torch.Tensor) -> torch.Tensor:
    """The feature maps (C, H, W) of a layer, without hooks: the blocks one after the other."""
    x = model.normalisation(image)
    with torch.no_grad():
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        for block in BLOCKS[1 : BLOCKS.index(layer) + 1]:
            x = getattr(model, block)(x)
    return x[0]


def maps_are_the_layers(source) -> Iterator[bool]:
    model, split = copy.deepcopy(source).train(), make_split("val", 6, size=64)
    box = widgets.feature_maps(model, split)
    layer, image = box.children[:2]
    pictures = set()
    for place, block in enumerate(BLOCKS):
        layer.value = place
        maps = maps_by_hand(copy.deepcopy(source).eval(), block, split.images[:1])
        liveliest = int(maps.flatten(1).std(1).argmax())
        start = f"eight of {len(maps)} feature maps of {block} that vary most: "
        yield f"{start}channels {liveliest}," in said(box)
        yield f"each of {maps.shape[1]}×{maps.shape[2]} squares" in said(box)
        pictures.add(picture(box))
    image.value = 5
    yield "Image 5 (malignant)" in said(box)
    pictures.add(picture(box))
    untouched = model.training and not any(m._forward_hooks for m in model.modules())
    yield untouched
    yield len(pictures) == len(BLOCKS) + 1


def test_feature_maps(shown, source, monkeypatch):
    assert all(maps_are_the_layers(source))
    maps = importlib.import_module("medtl_utils.widgets.chapter_02")._maps
    planted(
        monkeypatch,
        "chapter_02",
        "_maps",
        lambda model, layer, images: maps(model, layer, 255 - images),
    )
    assert not all(maps_are_the_layers(source))


# ---- chapters 03 and 04 ------------------------------------------------------------------------


def losses_are_torchvisions() -> Iterator[bool]:
    """Cost and pull at 0.1 and at 0.9 against torchvision's focal loss and autograd."""
    box = widgets.loss_curves()
    weight, gamma = box.children[:2]
    pictures = set()
    for w, price in enumerate(weight.choices):
        for g, power in enumerate(gamma.choices):
            weight.value, gamma.value = w, g
            pictures.add(picture(box))
            gap = torch.tensor([0.1, 0.9], dtype=torch.float64).logit().requires_grad_()
            ones = torch.ones(2, dtype=torch.float64)
            cost = price * sigmoid_focal_loss(gap, ones, alpha=-1, gamma=power)
            cost.sum().backward()
            cross = -torch.tensor([0.1, 0.9]).log()
            want = torch.stack([cost.detach(), cross, -gap.grad, torch.tensor([0.9, 0.1])])
            found = re.findall(r"(?:costs |cross-entropy |pulls |\()(-?\d\S*\d\d\d)\b", said(box))
            yield np.allclose([float(v) for v in found], want.T.flatten(), atol=6e-4)
    yield len(pictures) == len(weight.choices) * len(gamma.choices)


def test_loss_curves(shown, monkeypatch):
    assert all(losses_are_torchvisions())
    chapter = importlib.import_module("medtl_utils.widgets.chapter_03")
    flat = lambda weight, gamma: (  # planted: the pull forgets that the focus itself changes
        weight * (1 - chapter.P) ** gamma * chapter.CROSS_ENTROPY,
        weight * (1 - chapter.P) ** (gamma + 1),
    )
    planted(monkeypatch, "chapter_03", "_focal", flat)
    assert not all(losses_are_torchvisions())


H, STAR, START = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([1.0, -0.5]), np.array([-1.0, 1.0])


def sgd(rate: float, momentum: float, steps: int = 40) -> float:
    """The loss on the bowl after PyTorch's own gradient descent."""
    theta = torch.tensor(START, requires_grad=True)
    optimiser = torch.optim.SGD([theta], lr=rate, momentum=momentum)
    away = lambda: theta - torch.tensor(STAR)
    for _ in range(steps):
        optimiser.zero_grad()
        (away() @ torch.tensor(H) @ away() / 2).backward()
        optimiser.step()
    return (away() @ torch.tensor(H) @ away() / 2).item()


def path_is_sgds() -> Iterator[bool]:
    box = widgets.gradient_descent_path(H, STAR, START)
    rate, momentum = box.children[:2]
    pictures = set()
    for percent in (50, 100, 150, 190):
        for index, beta in enumerate(momentum.choices):
            rate.value, momentum.value = percent, index
            limit = 100 * (1 + beta)
            loss = sgd(percent / 100 * 2 / np.linalg.eigvalsh(H)[-1], beta)
            verdict = "converges" if percent < limit else "diverges"
            verdict = "stays on the edge" if percent == limit else verdict
            yield f"momentum {beta}; the bound is {limit:.0f} %" in said(box)
            yield f"to {loss:.3g}: it {verdict}." in said(box)
            pictures.add(picture(box))
    yield len(pictures) == 4 * 3


def test_gradient_descent_path(shown, monkeypatch):
    assert all(path_is_sgds())
    chapter = importlib.import_module("medtl_utils.widgets.chapter_04")
    path = chapter.Bowl.path
    without = lambda bowl, share, beta, steps: path(bowl, share, 0, steps)
    planted(monkeypatch, "chapter_04", "Bowl.path", without)
    assert not all(path_is_sgds())


@pytest.mark.parametrize(
    "wrong", [np.eye(3), np.array([[1.0, 2.0], [0.0, 1.0]]), np.diag([1.0, -1.0])]
)
def test_only_bowls(shown, wrong):
    with pytest.raises(ValueError, match="symmetric 2 × 2"):
        widgets.gradient_descent_path(wrong, STAR, START)
