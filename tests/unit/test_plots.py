"""Figures carry a text alternative and leave nothing open."""

import matplotlib.pyplot as plt
import pytest

from medtl_utils import plots
from tests.conftest import make_split


@pytest.fixture
def shown(monkeypatch):
    pages = []
    monkeypatch.setattr("IPython.display.display", lambda thing: pages.append(thing.data))
    return pages


def test_show(shown):
    fig, axis = plt.subplots()
    axis.set_title("A <b> title")
    plots.show(fig, "rising & falling")
    assert (
        'alt="Figure: A &lt;b&gt; title"' in shown[0]
        and "In words:</em> rising &amp; falling" in shown[0]
    )
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="sentence"):
        plots.show(plt.figure(), " ")
    plt.close("all")


def test_ready_made_figures(shown):
    plots.show_images(make_split(), 8, "Some images")
    plots.show_images(make_split()[:3], captions=["a", "b", "c"])
    plots.plot_intervals([("one", 0.5, 0.4, 0.6)], "One", "AUC", reference=0.5)
    assert "one 0.50 (0.40 to 0.60)" in shown[2]
    assert shown[0].count("malignant") == 4 and not plt.get_fignums()


def test_rows_with_the_same_series_share_a_row():
    labels = [f"{row}: {one}" for row in ("home", "away") for one in ("clean", "marked")]
    assert plots._rows_and_series(labels) == (["home", "away"], ["clean", "marked"])
    for others in (labels[:3], labels[::-1][1:], ["a", "b"], ["a: x", "b: y"], ["a: x", "b: x"]):
        assert plots._rows_and_series(others) == (others, [""])


def test_paired_rows_are_told_apart(shown, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "show", lambda fig, text: drawn.append((fig, text)))
    rows = [(f"{a}: {b}", 0.5, 0.4, 0.6) for a in ("home", "away") for b in ("clean", "marked")]
    plots.plot_intervals(rows, "Two models", "AUC")
    (axis,), legend = drawn[0][0].axes, drawn[0][0].legends[0]
    points = [line for line in axis.lines if line.get_marker() in ("o", "s")]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["home", "away"]
    assert [t.get_text() for t in legend.get_texts()] == ["clean", "marked"]
    assert len({p.get_ydata()[0] for p in points}) == 4  # no point hides another
    assert len({(p.get_color(), p.get_marker()) for p in points}) == 2
    plt.close("all")
