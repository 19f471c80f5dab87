"""Notebook 13: the inner-loop player tells the error of what it draws."""

import re

import numpy as np
import pytest

from medtl_utils import widgets
from medtl_utils.widgets import chapter_13
from tests.conftest import picture

GRID = np.linspace(-5, 5, 101)


def play(curve, shots, steps):
    """Made-up lines whose errors one can write down."""
    points = np.linspace(-4, 4, shots)
    flat = np.zeros_like(GRID)
    lines = {"true": flat + curve, "one": flat + curve - steps / 10, "two": flat + 2 * shots}
    return points, np.full(shots, curve), GRID, lines


def tells_the_errors() -> bool:
    box = widgets.inner_loop_player(play, curves=4)
    curve, shots, steps = box.children[:3]
    for number, place, n in ((1, 0, 3), (4, 2, 0), (3, 1, 10)):
        curve.value, shots.value, steps.value = number, place, n
        text = re.sub(r"<img.*?/>", "", picture(box))
        k = chapter_13.SHOTS[place]
        wanted = f"one {(n / 10) ** 2:.1f}, two {(number - 1 - 2 * k) ** 2:.1f}"
        if wanted not in text or f"Curve {number}, {k} point" not in text:
            return False
    return True


def test_the_player_tells_the_errors(monkeypatch):
    assert tells_the_errors()
    monkeypatch.setattr(chapter_13, "_short", lambda error: f"{error + 1:.1f}")
    assert not tells_the_errors()


@pytest.mark.parametrize("error", [np.inf, np.nan, 1e5])
def test_an_exploding_line_is_drawn_and_named(error):
    exploded = lambda *at: (*play(*at)[:3], {"true": GRID * 0, "one": GRID * 0 + error})
    assert "over 1,000" in picture(widgets.inner_loop_player(exploded, curves=2))
