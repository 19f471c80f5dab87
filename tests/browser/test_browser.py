"""Each stored notebook as a reader meets it, and every widget driven to its extremes.

The notebooks are not run here: nbval runs each once. The widgets come from a gallery, one small
cell each. `make test-slow` runs every notebook in the browser.
"""

import ast
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.browser.lab import LIVE, Lab, chromium, with_last_word
from tests.chapters.reading_rules import is_deep
from tests.conftest import ROOT

NOTEBOOKS = [
    *sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")),
    ROOT / "notebooks" / "template.ipynb",
]
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
PLACE = "[Interactive figure"
VIEW = "application/vnd.jupyter.widget-view+json"


def widget_names() -> set[str]:
    from medtl_utils.widgets import GALLERY

    return set(GALLERY) | {"explore"}


def widget_calls(notebook: nbformat.NotebookNode) -> int:
    """How many calls of a widget stand in the cells, outside functions."""
    names, calls = widget_names(), 0
    for cell in notebook.cells:
        if cell.cell_type == "code" and any(name in cell.source for name in names):
            for node in ast.walk(ast.parse(cell.source)):
                function = getattr(node, "func", None)
                name = getattr(function, "id", getattr(function, "attr", None))
                calls += isinstance(node, ast.Call) and name in names
    return calls


def run(browser, lab, cells, widgets, name="generated.ipynb", patience=20) -> list[str]:
    """Problems of a notebook made of these cells, after Run All."""
    folder, *_ = lab
    notebook = new_notebook(cells=cells, metadata=KERNEL)
    word = with_last_word(notebook)
    nbformat.write(notebook, folder / name)
    page = Lab(browser, lab, name)
    page.run_all()
    found = page.run_problems(word, widgets, patience=patience)
    page.close()
    return found


# ---- the stored notebooks ------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_stored_notebook_in_the_browser(browser, lab, path):
    page = Lab(browser, lab, path.name)
    assert page.stored_problems() == []
    assert page.page.locator(LIVE).count() == 0  # nothing ran
    page.close()


def static_figures(notebook: nbformat.NotebookNode) -> list[str]:
    """What is wrong with the words, and the static figure below, that stand for each widget."""
    found, places = [], 0
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        here = [i for i, o in enumerate(outputs) if PLACE in str(o.get("data", {}))]
        places += len(here)
        for at, end in zip(here, [*here[1:], len(outputs)]):
            if not any("<img" in str(o.get("data", {})) for o in outputs[at:end]):
                found.append(f"{cell.id}: a widget without its static figure")
    calls = widget_calls(notebook)
    if calls != places:
        found.append(f"{calls} calls of widgets, but {places} outputs of widgets")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_each_widget_has_its_static_figure(path):
    assert static_figures(nbformat.read(path, 4)) == []


def test_the_core_notebooks_have_widgets():
    cores = [p for p in NOTEBOOKS[:-1] if re.match(r"\d\d_", p.name) and not is_deep(p)]
    calls = {p.stem: widget_calls(nbformat.read(p, 4)) for p in cores}
    assert len(calls) == 17 and min(calls.values()) >= 1, calls


def test_the_static_figure_check_bites():
    """Planted: no static figure; a call of a widget that left nothing."""
    source = "widgets.explore(draw, n=slider)"
    place = new_output("display_data", data={"text/plain": f"{PLACE}: it needs a kernel.]"})
    figure = new_output("display_data", data={"text/html": "<img alt='a figure'>"})
    problems = lambda *outputs: static_figures(
        new_notebook(cells=[new_code_cell(source, outputs=list(outputs))])
    )
    assert problems(place, figure) == []
    assert "without its static figure" in problems(place)[0]
    assert "without its static figure" in problems(figure, place)[0]
    assert "1 calls of widgets, but 0 outputs" in problems(figure)[0]


# ---- every widget ------------------------------------------------------------------------------


def test_every_widget_is_driven_to_its_extremes(browser, lab):
    from medtl_utils.widgets import GALLERY

    cells = [new_markdown_cell("# Gallery"), *map(new_code_cell, GALLERY.values())]
    assert run(browser, lab, cells, len(GALLERY), "gallery.ipynb") == []


# ---- planted mistakes --------------------------------------------------------------------------


def html(text: str):
    return new_output("display_data", data={"text/html": text})


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)
GOOD = html(f'<img alt="a dot" src="data:image/png;base64,{PIXEL}"/>')
STORED = {
    "never ran": (None, GOOD),
    "broken image": (1, html('<img alt="planted" src="data:image/png;base64,AAAA"/>')),
    "wider than the page": (1, html('<div style="width: 3000px">wide</div>')),
    "link-name": (1, html('<a href="https://example.org"></a>')),
    "request to https://example.org": (1, html('<img alt="x" src="https://example.org/x.png"/>')),
    "figures on the page": (1, html("<p>&lt;img</p><!-- <img -->")),
    "image without words": (1, html(f'<img src="data:image/png;base64,{PIXEL}"/>')),
    "heading-order": (1, html("<h4>Two levels lower</h4>")),
    "formula: ": (1, new_output("display_data", data={"text/latex": r"$\nosuchmacro{x}$"})),
}


def stored(browser, lab, count, output) -> list[str]:
    folder, *_ = lab
    cell = new_code_cell("1", execution_count=count, outputs=[output])
    notebook = new_notebook(cells=[new_markdown_cell("# Planted"), cell], metadata=KERNEL)
    nbformat.write(notebook, folder / "stored.ipynb")
    page = Lab(browser, lab, "stored.ipynb")
    found = page.stored_problems()
    page.close()
    return found


def test_a_good_stored_notebook_has_no_problem(browser, lab):
    assert stored(browser, lab, 1, GOOD) == []


@pytest.mark.parametrize("word", STORED)
def test_the_check_of_stored_notebooks_bites(browser, lab, word):
    assert any(word in p for p in stored(browser, lab, *STORED[word]))


def widget(control: str, figure: str) -> str:
    return (
        "from medtl_utils import widgets\nimport matplotlib.pyplot as plt\n"
        f"def draw(n):\n    fig, axis = plt.subplots()\n    axis.set_title({figure})\n"
        "    return fig, 'In words: the figure says the number, and nothing else is in it.'\n"
        f"widgets.explore(draw, n={control}, static=False);"
    )


SLIDER = "widgets.slider('n', 0, 5, 2)"
GOOD_WIDGET = widget(SLIDER, "n")


def odd_slider(line: str) -> str:
    """A widget whose two controls obey one more line of JavaScript."""
    esm = f'widgets.Slider._esm.replace("el.append(first", {line + "; el.append(first"!r})'
    odd = f"type('Odd', (widgets.Slider,), {{'_esm': {esm}}})"
    return widget(f"{odd}(label='n', min=0, max=5, value=2)", "n")


PLANTED = {
    "outputs with errors": ("raise ValueError('planted')", 0),
    "did not answer": (widget(SLIDER, "'always the same'"), 1),
    "Tab does not reach n, or type": (odd_slider("twin.tabIndex = -1"), 1),
    "has no visible focus": (odd_slider("range.style.outline = 'none'"), 1),
    "n, or type: ArrowUp did not answer": (odd_slider("twin.onkeydown = () => false"), 1),
    "0 live widgets, 1 are wanted": ("print('no widget')", 1),
    "aria-input-field-name": ("import ipywidgets as w\nw.VBox([w.IntSlider()])", 0),
    "request to https://example.org": (
        "from IPython.display import HTML\n"
        'HTML(\'<img alt="planted" src="https://example.org/x.png"/>\')',
        0,
    ),
    "console:": (
        "from IPython.display import Javascript\nJavascript('console.error(\"planted\")')",
        0,
    ),
}


def test_a_good_widget_has_no_problem(browser, lab):
    assert run(browser, lab, [new_markdown_cell("# Good"), new_code_cell(GOOD_WIDGET)], 1) == []


@pytest.mark.parametrize("word", PLANTED)
def test_the_browser_check_bites(browser, lab, word):
    source, widgets = PLANTED[word]
    cells = [new_markdown_cell("# Planted"), new_code_cell(source)]
    assert any(word in p for p in run(browser, lab, cells, widgets, patience=2))


def test_a_notebook_that_was_not_run_is_found(browser, lab):
    """Stored prompts and outputs look finished; the word that only a run can print is missing."""
    page = Lab(browser, lab, NOTEBOOKS[0].name)
    assert "the last cell did not run" in page.run_problems("0" * 32, 0, seconds=3)
    page.close()


def test_without_chromium_it_is_skipped_and_fails_on_ci(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install Debian's package chromium"):
        chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install Debian's package chromium"):
        chromium()
