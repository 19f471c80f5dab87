"""The widget pattern without a browser: values reach the figure, twins follow, errors become words."""

import matplotlib.pyplot as plt

from medtl_utils import widgets
from tests.conftest import make_split, picture


def draw(n):
    if n == 3:
        raise ValueError("three is not allowed")
    fig, axis = plt.subplots()
    axis.plot([0, n])
    axis.set_title(f"n = {n}")
    return fig, f"a line up to {n}"


def test_slider_number_field_and_figure_move_together(shown):
    box = widgets.explore(draw, n=widgets.slider("n", 0, 9, 2))
    slider, number = box.children[0].children
    assert (
        "n = 2" in picture(box)
        and "a line up to 2" in picture(box)
        and 'aria-live="polite"' in picture(box)
    )
    slider.value = 5
    assert number.value == 5 and "n = 5" in picture(box)
    number.value = 9
    assert slider.value == 9 and "n = 9" in picture(box)
    slider.value = 3
    assert '<p role="alert">three is not allowed</p>' == picture(box)
    assert not plt.get_fignums()
    bundle = shown[0]
    assert "needs a running kernel" in bundle["text/plain"] and "image/png" not in bundle
    assert "n = 2" in shown[-1].data


def test_choice_gives_the_option_not_its_index(shown):
    seen = []
    box = widgets.explore(
        lambda size: (seen.append(size), draw(size))[1],
        static=False,
        size=widgets.choice("size", [25, 100, 546]),
    )
    slider, menu = box.children[0].children
    menu.value = 2
    assert (
        slider.value == 2
        and seen == [25, 546]
        and slider.options == ["25", "100", "546"]
        and len(shown) == 1
    )


def test_ready_made(shown):
    row = {
        "metric": "auc",
        "test": "official",
        "a": 0.8,
        "b": 0.7,
        "difference": 0.1,
        "low": 0.0,
        "high": 0.2,
    }
    box = widgets.transfer_against_n({"summary": [{**row, "n_train": n} for n in (25, 100)]})
    box.children[0].children[0].value = 1
    assert "With 100 labelled real images the AUC is 0.70 from scratch and 0.80" in picture(box)
    split = make_split("test", 6)
    box = widgets.case_viewer(split, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    box.children[0].children[0].value = 5
    assert (
        "Image 5 gets a probability of 0.60 of being malignant; in truth it is malignant"
        in picture(box)
    )
