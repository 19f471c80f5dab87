"""Notebook 08's augmentation bench: what it shows and says, against NumPy."""

import html
import importlib
import re

import numpy as np

from medtl_utils import widgets
from studies import small_data
from tests.conftest import make_split, picture

CHANGES = {name: change for name, (change, *_) in small_data.ARMS.items()}


def said(box) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))


def bench_is_right() -> bool:
    """What it says of each change; and the mean grey after, computed in NumPy."""
    split = make_split("train", 8, size=32)
    box = widgets.augmentation_bench(split, CHANGES)
    image, lr, tb, gain, speckle, shift, scale, mixup, _ = box.children
    first = [int((split.labels == c).nonzero()[0]) for c in (0, 1)]
    before, other = (split.images[row, 0].numpy().astype(float) for row in first)
    checks = ["Yes, as far as" in said(box), "nothing changed" in said(box)]
    lr.value = 1
    turned = f"changed by {np.abs(before[:, ::-1] - before).mean():.1f}"
    checks += ["Yes, as far as" in said(box), turned in said(box)]
    lr.value, tb.value = 0, 1
    checks.append("No: the skin lies below" in said(box))
    tb.value, mixup.value = 0, 40
    mean = 0.6 * before.mean() + 0.4 * other.mean()
    checks += ["two women in one picture" in said(box), f"{mean:.0f} after" in said(box)]
    mixup.value, gain.value = 0, 8
    checks.append("Yes, as far as" in said(box))
    gain.value = 20
    checks.append("No: so bright" in said(box))
    gain.value, scale.value = 0, 200
    checks.append("no such depth" in said(box))
    return all(checks)


def test_augmentation_bench(shown, monkeypatch):
    assert bench_is_right()
    chapter = importlib.import_module("medtl_utils.widgets.chapter_08")
    right = chapter._changed_image
    wrong = lambda before, other, changes, values: right(other, before, changes, values)
    monkeypatch.setattr(chapter, "_changed_image", wrong)
    assert not bench_is_right()
    monkeypatch.setattr(chapter, "_changed_image", right)
    monkeypatch.setattr(chapter, "_verdict", lambda values: [])
    assert not bench_is_right()


def test_the_bench_offers_what_the_study_draws():
    """The ends within which the bench says yes are those of the study."""
    chapter = importlib.import_module("medtl_utils.widgets.chapter_08")
    ends = lambda: {
        name: tuple(v / times for v in inside)
        for name, (_, times, *_, inside, _) in chapter.CONTROLS.items()
    }
    theirs = {name: (low, high) for name, (_, low, high) in small_data.ARMS.items()}
    assert all(theirs[name] == found for name, found in ends().items())
    assert {*ends(), *chapter.FLIPS} == set(theirs)
