"""Each notebook as a reader meets it: JupyterLab in Chromium, every cell run, every widget driven to its extremes.

Needs Debian's chromium (or another Chromium named in the variable CHROMIUM); skipped, with that sentence, where there is none.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.conftest import ROOT

CHROMIUM = (
    os.environ.get("CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium here: install Debian's package chromium, or set CHROMIUM=/path/to/it",
)
NOTEBOOKS = [
    *sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")),
    ROOT / "notebooks" / "template.ipynb",
]
# requests that JupyterLab itself fails on in an empty home; everything else counts
HARMLESS = re.compile(
    r"favicon|/api/contents/.*workspace|/lab/api/workspaces|status of 404.*checkpoints|Failed to load resource.*404",
    re.I,
)


@contextmanager
def jupyterlab(folder, home):
    """A JupyterLab on a free local port, without announcements, rendering whole notebooks."""
    settings = home / "settings" / "@jupyterlab"
    for name, text in {
        "notebook-extension/tracker": '{"windowingMode": "none"}',
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    }.items():
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        (settings / f"{name}.jupyterlab-settings").write_text(text)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(16)
    options = [
        f"--port={port}",
        "--ip=127.0.0.1",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
    ]
    folders = [
        f"--LabApp.user_settings_dir={home / 'settings'}",
        f"--LabApp.workspaces_dir={home / 'workspaces'}",
    ]
    env = {
        **os.environ,
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "OMP_NUM_THREADS": "2",
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        *options,
        *folders,
    ]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        yield port, token
    finally:
        server.terminate()
        server.wait(timeout=20)


class Lab:
    """One notebook in one page; collects console errors and requests to other hosts."""

    def __init__(self, browser, port, token, name):
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000})
        self.foreign, self.errors = [], []
        here = (f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}", "data:", "blob:")

        def gate(route):
            if route.request.url.startswith(here):
                route.continue_()
            else:
                self.foreign.append(route.request.url)
                route.abort()

        self.page.route("**/*", gate)
        self.page.on(
            "console", lambda m: self.errors.append(m.text[:300]) if m.type == "error" else None
        )
        self.page.on("pageerror", lambda e: self.errors.append(str(e)[:300]))
        self.page.goto(f"http://127.0.0.1:{port}/lab/tree/{name}?token={token}&reset")
        self.page.locator(".jp-NotebookPanel").wait_for(timeout=120_000)
        self.page.wait_for_timeout(3000)

    def run_all(self, seconds=900):
        self.page.get_by_role("menuitem", name="Run", exact=True).first.click()
        self.page.locator("#jp-mainmenu-run").get_by_text("Run All Cells", exact=True).click()
        self.page.wait_for_timeout(3000)
        idle = "() => ![...document.querySelectorAll('.jp-InputArea-prompt')].some(e => e.textContent.includes('[*]'))"
        self.page.wait_for_function(idle, timeout=seconds * 1000)
        self.page.wait_for_timeout(1500)

    def cell_errors(self) -> int:
        return self.page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], .jp-mod-error"
        ).count()

    def real_errors(self) -> list[str]:
        return [e for e in self.errors if not HARMLESS.search(e)]

    def drive_widgets(self) -> list[str]:
        """Every control to both ends by keyboard and by its twin; returns what did not answer within eight seconds."""
        silent = []

        def answers(picture, what: str, act, *arguments, **options) -> None:
            before = picture.get_attribute("src")
            act(*arguments, **options)
            for _ in range(80):
                self.page.wait_for_timeout(100)
                if picture.get_attribute("src") != before:
                    return
            silent.append(f"{what} did not answer")

        def fill(field, value: str) -> None:
            field.fill(value)
            field.press("Enter")

        for box in self.page.locator(".widget-vbox:has(figure)").all():
            picture = box.locator("figure img")
            for handle in box.get_by_role("slider").all():
                handle.scroll_into_view_if_needed()
                handle.focus()
                for key in ("End", "Home", "ArrowRight", "ArrowLeft"):
                    answers(picture, f"slider: {key}", handle.press, key)
                area = handle.bounding_box()
                x, y = area["x"] + 0.7 * area["width"], area["y"] + area["height"] / 2
                answers(picture, "slider: the mouse", self.page.mouse.click, x, y)
            for twin in box.locator("input[type=number]").all():
                for value in (twin.get_attribute("max"), twin.get_attribute("min")):
                    answers(picture, f"number field: {value}", fill, twin, value)
            for twin in box.locator("select").all():
                options = twin.locator("option").all_text_contents()
                for option in (
                    options[0],
                    options[-1],
                ):  # the mouse left its slider in the upper half
                    answers(picture, f"list: {option}", twin.select_option, label=option)
            if not box.locator("label, .widget-label").count():
                silent.append("a control without a label")
        return silent

    def axe(self) -> list[str]:
        """Serious and critical violations inside what the notebook adds: rendered Markdown and outputs."""
        from axe_playwright_python.sync_playwright import Axe

        report = Axe().run(
            self.page,
            context={
                "include": [
                    [".jp-RenderedHTMLCommon"],
                    *([[".widget-vbox"]] if self.has_widget() else []),
                ]
            },
        )
        return [
            f"{v['id']}: {node['html'][:160]}"
            for v in report.response["violations"]
            if v["impact"] in ("serious", "critical")
            for node in v["nodes"]
            if v["id"] not in JUPYTERLABS_OWN
        ]

    def has_widget(self) -> bool:
        return self.page.locator(".widget-vbox").count() > 0


# what axe finds in any notebook, an empty one included: the colours and scrolling boxes of JupyterLab's own theme
JUPYTERLABS_OWN = {"color-contrast", "scrollable-region-focusable"}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    switches = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ]
    with sync_playwright() as p:
        chromium = p.chromium.launch(
            executable_path=CHROMIUM,
            args=[*switches, "--disable-component-update", "--disable-sync"],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder)
    with jupyterlab(folder, home) as (port, token):
        yield folder, port, token


def problems(page: Lab) -> list[str]:
    page.run_all()
    found = [f"{page.cell_errors()} cells with errors or stderr"] if page.cell_errors() else []
    found += page.drive_widgets() + [f"accessibility: {v}" for v in page.axe()]
    found += [f"request to {url}" for url in page.foreign] + [
        f"console: {e}" for e in page.real_errors()
    ]
    page.page.close()
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_in_the_browser(browser, lab, path):
    _, port, token = lab
    assert problems(Lab(browser, port, token, path.name)) == []


def test_widgets_are_there(browser, lab):
    """The driver has something to drive: notebooks 00 and 05 each show a live widget after a run."""
    _, port, token = lab
    page = Lab(browser, port, token, "00_start_here.ipynb")
    page.run_all()
    assert page.page.locator(".widget-vbox:has(figure)").count() == 1
    page.page.close()


PLANTED = {
    "cells with errors": "raise ValueError('planted')",
    "did not answer": "from medtl_utils import widgets\nimport matplotlib.pyplot as plt\nwidgets.explore(lambda n: (plt.figure(), 'always the same figure'), n=widgets.slider('n', 0, 5, 2), static=False);",
    "aria-input-field-name": "import ipywidgets as w\nw.VBox([w.IntSlider()])",
    "request to https://example.org": 'from IPython.display import HTML\nHTML(\'<img alt="planted" src="https://example.org/x.png"/>\')',
    "console:": "from IPython.display import Javascript\nJavascript('console.error(\"planted\")')",
}


@pytest.mark.parametrize("word", PLANTED)
def test_the_browser_check_bites(browser, lab, word):
    folder, port, token = lab
    cells = [new_markdown_cell("# Planted"), new_code_cell(PLANTED[word])]
    notebook = new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
    )
    nbformat.write(notebook, folder / "planted.ipynb")
    assert any(word in p for p in problems(Lab(browser, port, token, "planted.ipynb")))
