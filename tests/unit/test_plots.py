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
    plots.plot_histories({"run": {"val_auc": [0.5, 0.9]}}, "val_auc", "Up", "AUC")
    assert "one 0.50 (0.40 to 0.60)" in shown[2] and "run from 0.50 to 0.90" in shown[3]
    assert shown[0].count("malignant") == 4 and not plt.get_fignums()
