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

from medtl_utils import source_model, widgets
from medtl_utils.models import BLOCKS
from medtl_utils.paths import data_folder
from tests.conftest import make_split, picture


def said(box) -> str:
    """The caption that the widget shows at the moment, or an error's words."""
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))


def planted(monkeypatch, module: str, name: str, wrong) -> None:
    """Replace `name` (or "Class.name") of a chapter's file by something wrong."""
    monkeypatch.setattr(f"medtl_utils.widgets.{module}.{name}", wrong)


# ---- chapter 00 (01: test_01_widget.py) ---------------------------------------------------------


def kept_table(*names: str) -> dict:
    """The first of these tables that is there."""
    files = (data_folder() / "results" / f"{name}.json" for name in names)
    return json.loads(next(file for file in files if file.is_file()).read_text())


def said_of_a_source(level: dict, name: str, gain: dict, value: str) -> str:
    """What the caption must say, from the table's rows."""
    ends = lambda row, how: f"({row['low']:{how}} to {row['high']:{how}})"
    inside = gain["low"] <= 0 <= gain["high"]
    verdict = "zero is inside: we cannot say" if inside else "zero is outside: here it"
    return (
        f"With {name} it is {level.get('auc', level.get('value')):.2f} {ends(level, '.2f')}: "
        f"gain {gain[value]:+z.2f} {ends(gain, '+z.2f')}; {verdict}"
    )


def every_row_is_said(table: dict, keys: tuple, n_of: str, sources: dict) -> Iterator[bool]:
    """`keys`: of the start in levels, of the difference; the base comes first in `sources`."""
    start, value = keys
    levels = {(r[start], r[n_of]): r for r in table["levels"]}
    base, *others = sources
    numbers = sorted({n for arm, n in levels if arm == base}, key=lambda n: n or math.inf)
    box, pictures = widgets.transfer_against_n(table), set()
    for place, n in enumerate(numbers):
        box.children[0].value = place
        pictures.add(picture(box))
        low = levels[base, n]
        level = low.get("auc", low.get("value"))
        known = f"{n} labelled images" if n else "all labelled images (about 624)"
        yield f"With {known} the AUC" in said(box)
        yield f"is {level:.2f} ({low['low']:.2f} to {low['high']:.2f}) from scratch" in said(box)
        for arm in others:
            (gain,) = (
                r
                for r in table.get("gains", table.get("summary"))
                if r[start] == arm and r[n_of] == n and r.get("against", base) == base
            )
            yield said_of_a_source(levels[arm, n], sources[arm], gain, value) in said(box)
    yield len(pictures) == len(numbers) == box.children[0].max + 1


def evidence_is_said() -> Iterator[bool]:
    table = kept_table("evidence", "evidence_first")
    table["levels"] = [r for r in table["levels"] if r["metric"] == "auc"]
    sources = {
        "scratch": "",
        "ultrasound": "simulated ultrasound",
        "shapes": "the control (shapes)",
    }
    yield from every_row_is_said(table, ("arm", "value"), "n", sources)


def learning_curve_is_said() -> Iterator[bool]:
    table = kept_table("learning_curve")
    for kind in ("levels", "summary"):
        table[kind] = [r for r in table[kind] if r["test"] == "simulated"]
    sources = {"random": "", "ultrasound": "simulated ultrasound", "digits": "handwritten digits"}
    yield from every_row_is_said(table, ("source", "difference"), "n_train", sources)


@pytest.mark.parametrize("rows", [evidence_is_said, learning_curve_is_said])
def test_transfer_against_n(shown, monkeypatch, rows):
    assert all(rows())
    chapter = importlib.import_module("medtl_utils.widgets.chapter_00")
    right = chapter._gain
    planted(monkeypatch, "chapter_00", "_gain", lambda row: right([-end for end in row]))
    assert not all(rows())
    planted(monkeypatch, "chapter_00", "_gain", right)
    planted(monkeypatch, "chapter_00", "_verdict", lambda row: "zero is outside: here it helped")
    assert not all(rows())


def whiskers(box, monkeypatch) -> list[float]:
    """The ends of the gains that are drawn, at the widget's setting."""
    drawn = []
    chapter = importlib.import_module("medtl_utils.widgets.chapter_00")
    draw = chapter._draw_gains

    def watch(axis, curves, n):
        draw(axis, curves, n)
        drawn[:] = [line.get_xdata() for line in axis.lines if line.get_linewidth() == 3]

    monkeypatch.setattr(chapter, "_draw_gains", watch)
    box.children[0].value = 1
    monkeypatch.setattr(chapter, "_draw_gains", draw)
    return [float(end) for pair in drawn for end in pair]


def test_transfer_against_n_draws_the_intervals(shown, monkeypatch):
    table = kept_table("learning_curve")
    drawn = whiskers(widgets.transfer_against_n(table), monkeypatch)
    rows = [r for r in table["summary"] if r["test"] == "simulated" and r["n_train"] == 50]
    rows.sort(key=lambda r: r["source"], reverse=True)  # ultrasound, digits
    assert drawn == [end for r in rows for end in (r["low"], r["high"])]


def test_transfer_against_n_without_such_a_test_set(shown):
    with pytest.raises(ValueError, match="It has: .*simulated"):
        widgets.transfer_against_n(kept_table("learning_curve"), test="other")


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
