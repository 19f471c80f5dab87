"""Every widget has a small cell that shows it alone; each of its controls changes the picture."""

import importlib
import inspect
import pkgutil

import pytest

from medtl_utils import widgets
from tests.conftest import picture


def public_widgets() -> dict:
    """Every public function of a chapter's file, by name."""
    found = {}
    for module in pkgutil.iter_modules(widgets.__path__, "medtl_utils.widgets."):
        if "chapter_" in module.name:
            for name, f in vars(importlib.import_module(module.name)).items():
                if inspect.isfunction(f) and f.__module__ == module.name and name[0] != "_":
                    found[name] = f
    return found


def gallery_is_complete(gallery: dict) -> bool:
    return set(gallery) == set(public_widgets()) and len(gallery) > 0


def test_every_widget_has_a_cell():
    assert gallery_is_complete(widgets.GALLERY)
    for name, function in public_widgets().items():
        assert getattr(widgets, name) is function and name in widgets.__all__
        without = {n: cell for n, cell in widgets.GALLERY.items() if n != name}
        assert not gallery_is_complete(without)  # planted: a widget without a cell


def silent_controls(cell: str) -> list[str]:
    """Run a cell in a clean namespace; the controls whose first and last value look the same."""
    namespace = {}
    exec(compile(cell, "gallery", "exec"), namespace)
    *controls, _ = namespace["widget"].children
    silent = [] if controls else ["no control"]
    for control in controls:
        seen = []
        for value in (control.min, control.max):
            control.value = value
            seen.append(picture(namespace["widget"]))
        if seen[0] == seen[1] or not all("<figure" in page for page in seen):
            silent.append(control.label)
    return silent


@pytest.mark.parametrize("name", widgets.GALLERY)
def test_a_cell_shows_its_widget(shown, name):
    cell = widgets.GALLERY[name]
    assert len(cell.splitlines()) <= 8
    assert silent_controls(cell) == []
    assert "application/vnd.jupyter.widget-view+json" in shown[0]


STUCK = """\
import matplotlib.pyplot as plt
from medtl_utils.widgets import explore, slider
widget = explore(lambda n: (plt.figure(), "the same"), n=slider("n", 0, 5, 2))
"""
REFUSING = STUCK.replace('"the same"', 'f"{[0, 1, 2, 3, 4][n]}"')


@pytest.mark.parametrize("cell", [STUCK, REFUSING])
def test_the_gallery_check_bites(shown, cell):
    assert silent_controls(cell) == ["n"]  # planted: a still picture, an error at the last value
