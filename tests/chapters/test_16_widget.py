"""Notebook 16: the sample-size dial tells what the planner tells."""

import html
import re

from medtl_utils import widgets
from medtl_utils.sample_size import auc_error, validation_size
from medtl_utils.widgets import chapter_16
from tests.conftest import picture


def told(box) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))


def dial_is_right() -> bool:
    box = widgets.sample_size_dial()
    auc, ill, patients = box.children[:3]
    for a, i, n in ((0, 0, 0), (1, 2, 3), (4, 3, 5), (5, 5, 6)):
        auc.value, ill.value, patients.value = a, i, n
        A, phi = chapter_16.AUCS[a], chapter_16.ILL[i] / 100
        width = 2 * 1.959964 * auc_error(A, phi, chapter_16.PATIENTS[n])
        needed = validation_size(A, phi)["AUC"]
        text = told(box)
        if (
            f"expected to be {width:.2f} wide" not in text
            or f"needs {needed:,} patients" not in text
        ):
            return False
    return True


def test_the_dial_tells_what_the_planner_tells(monkeypatch):
    assert dial_is_right()
    monkeypatch.setattr(chapter_16, "Z", 1.645)  # planted: a 90 % interval
    assert not dial_is_right()


def test_too_few_ill_people_are_told():
    box = widgets.sample_size_dial()
    box.children[1].value = chapter_16.ILL.index(1)
    assert "at least 2 are needed" in told(box)
    assert "<img" in picture(box)  # the curve stays
