"""The pattern of an interactive figure without a browser: values reach it, errors are words."""

import html
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest

from medtl_utils import widgets
from medtl_utils.widgets import pattern
from tests.conftest import picture


def draw(n):
    if n == 3:
        raise ValueError('<b>&"</b> is not allowed')
    fig, axis = plt.subplots()
    axis.plot([0, n])
    axis.set_title(f"n = {n}")
    return fig, f"a line up to {n}"


def test_the_figure_follows_the_slider(shown):
    box = widgets.explore(draw, n=widgets.slider("n", 0, 9, 2))
    slider = box.children[0]
    assert "n = 2" in picture(box) and "a line up to 2" in picture(box)
    slider.value = 5
    assert "n = 5" in picture(box) and "n = 2" not in picture(box)
    assert not plt.get_fignums()


def test_a_static_figure_stands_below(shown):
    box = widgets.explore(draw, n=widgets.slider("n", 0, 9, 2))
    box.children[0].value = 5
    bundle, sentence, static = shown
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id
    assert "needs a running kernel. The figure below" in bundle["text/plain"]
    assert "image/png" not in bundle
    assert "for reading without a kernel" in sentence.data
    assert "n = 2" in static.data


def test_without_a_static_figure_none_is_promised(shown):
    widgets.explore(draw, static=False, n=widgets.slider("n", 0, 9, 2))
    (bundle,) = shown
    assert bundle["text/plain"] == "[Interactive figure: it needs a running kernel.]"


def test_choice_gives_the_option_not_its_index(shown):
    seen = []

    def note(size):
        seen.append(size)
        return draw(size)

    size = widgets.choice("size", [25, 100, 546])
    widgets.explore(note, static=False, size=size)
    size.value = 2
    assert seen == [25, 546]
    assert (size.min, size.max, size.options) == (0, 2, ["25", "100", "546"])


def alert_is_escaped() -> bool:
    box = widgets.explore(draw, static=False, n=widgets.slider("n", 0, 9, 2))
    box.children[0].value = 3
    words = "&lt;b&gt;&amp;&quot;&lt;/b&gt; is not allowed"
    return picture(box) == f'<p role="alert">{words}</p>'


def test_an_error_is_shown_as_words(shown, monkeypatch):
    assert alert_is_escaped()
    assert not plt.get_fignums()
    as_it_is = SimpleNamespace(escape=lambda text: text)
    monkeypatch.setattr(pattern, "html", as_it_is)  # planted
    assert not alert_is_escaped()


@pytest.mark.parametrize("error", [IndexError("5"), KeyError("layer9")])
def test_what_draw_cannot_handle_is_an_alert(shown, error):
    def refuse(n):
        raise error

    n = widgets.slider("n", 0, 9, 2)
    with pytest.raises(type(error)):  # the first values must work
        widgets.explore(refuse, n=n)
    box = widgets.explore(refuse, static=False, n=n)
    assert picture(box) == f'<p role="alert">{html.escape(str(error))}</p>'


def test_other_errors_are_not_hidden(shown):
    with pytest.raises(TypeError):
        widgets.explore(lambda m: draw(m), n=widgets.slider("n", 0, 9, 2))
