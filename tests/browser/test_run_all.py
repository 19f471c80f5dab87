"""Run All of each notebook in the browser, every widget in it driven: `make test-slow`."""

import nbformat
import pytest

from tests.browser.lab import Lab, with_last_word
from tests.browser.test_browser import NOTEBOOKS, widget_calls

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_run_all_in_the_browser(browser, lab, path):
    folder, *_ = lab
    notebook = nbformat.read(path, 4)
    widgets = widget_calls(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    word = with_last_word(notebook)
    name = f"run_all_{path.name}"
    nbformat.write(notebook, folder / name)
    page = Lab(browser, lab, name)
    page.run_all()
    assert page.run_problems(word, widgets) == []
    page.close()
