"""JupyterLab in Chromium: one notebook on one page, and everything that can be wrong with it.

Needs Debian's chromium, or another Chromium named in the variable CHROMIUM.
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
from nbformat.v4 import new_code_cell

from tests.browser.access import Driver, axe
from tests.conftest import own_folders

# requests that JupyterLab itself fails on in an empty home; everything else counts
HARMLESS = re.compile(
    r"favicon|/api/contents/.*workspace|/lab/api/workspaces|status of 404.*checkpoints"
    r"|Failed to load resource.*404",
    re.I,
)
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
STDERR = "application/vnd.jupyter.stderr"
ERROR = f".jp-mod-error, [data-mime-type='{STDERR}'], [data-mime-type$='jupyter.error']"
LIVE = ".widget-vbox:has(figure)"  # what `widgets.explore` shows while a kernel runs


def chromium() -> str:
    """The path of a Chromium; without one the test is skipped, and fails where CI=true."""
    named = os.environ.get("CHROMIUM")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = named or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        words = "no Chromium here: install Debian's package chromium, or set CHROMIUM=/path/to/it"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(words)
    return path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def jupyterlab(folder, home):
    """A JupyterLab on a free local port, without announcements, rendering whole notebooks."""
    for name, text in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    port, token = free_port(), secrets.token_hex(16)
    options = [
        f"--port={port}",
        "--ip=127.0.0.1",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.user_settings_dir={home / 'settings'}",
        f"--LabApp.workspaces_dir={home / 'workspaces'}",
    ]
    own = {"JUPYTER_RUNTIME_DIR": str(home / "runtime"), "JUPYTER_DATA_DIR": str(home / "data")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options]
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {**os.environ, **own, **own_folders(home)}
    server = subprocess.Popen(command, env=env, **nowhere)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", token
    finally:
        server.terminate()
        server.wait(timeout=20)


def with_last_word(notebook: nbformat.NotebookNode) -> str:
    """Add a cell that prints a word which stands nowhere else, and return the word."""
    word = secrets.token_hex(16)
    notebook.cells.append(new_code_cell(f"print({word[::-1]!r}[::-1])"))
    return word


class Lab:
    """One notebook in one page; collects console errors and requests to other hosts."""

    def __init__(self, browser, lab, name: str):
        folder, home, token = lab
        self.notebook = nbformat.read(folder / name, 4)
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000})
        self.foreign, self.errors = [], []
        here = (home, home.replace("http", "ws", 1), "data:", "blob:")

        def gate(route):
            if route.request.url.startswith(here):
                route.continue_()
            else:
                self.foreign.append(route.request.url)
                route.abort()

        def note(message):
            if message.type == "error" and not HARMLESS.search(message.text):
                self.errors.append(message.text[:300])

        self.page.route("**/*", gate)
        self.page.on("console", note)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)[:300]))
        self.page.goto(f"{home}/lab/tree/{name}?token={token}&reset")
        self.page.locator(".jp-NotebookPanel").wait_for(timeout=120_000)
        self.wait("n => document.querySelectorAll('.jp-Cell').length >= n", self.n_cells(), 60)
        self.page.wait_for_timeout(1500)

    def n_cells(self, kind: str = "") -> int:
        return sum(kind in ("", c.cell_type) for c in self.notebook.cells)

    def n_folded(self) -> int:
        """Cells whose code is folded, and which the file says were run."""
        folded = [
            c for c in self.notebook.cells if c.metadata.get("jupyter", {}).get("source_hidden")
        ]
        return sum(c.execution_count is not None for c in folded)

    def wait(self, condition: str, argument, seconds: float) -> bool:
        """Whether the page fulfils the condition (JavaScript) in time."""
        from playwright.sync_api import TimeoutError

        try:
            self.page.wait_for_function(condition, arg=argument, timeout=seconds * 1000)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.page.close()

    # ---- as it is stored -------------------------------------------------------------------

    def stored_problems(self) -> list[str]:
        """Faults of a notebook that a reader only opens: never run, not shown, too wide."""
        found = []
        code, ran = self.n_cells("code"), self.page.locator(".jp-CodeCell").count()
        if ran != code:
            found.append(f"{ran} code cells on the page, {code} in the file")
        prompts = self.page.locator(".jp-InputPrompt").all_text_contents()
        numbered = sum(bool(re.search(r"\[\d+\]", p)) for p in prompts)
        never = code - numbered - self.n_folded()  # a folded cell shows no number
        if never:
            found.append(f"{never} of {code} code cells never ran")
        stored = sum(str(c.get("outputs", "")).count("<img") for c in self.notebook.cells)
        shown = self.page.locator(".jp-OutputArea-output img").count()
        if shown != stored:
            found.append(f"{shown} figures on the page, {stored} in the file")
        return found + self.page_problems()

    def page_problems(self) -> list[str]:
        """Faults of whatever is on the page now."""
        found = [f"broken image: {alt}" for alt in self.page.evaluate(BROKEN_IMAGES)]
        found += [f"wider than the page: {text}" for text in self.page.evaluate(TOO_WIDE)]
        found += [f"accessibility: {v}" for v in axe(self.page)]
        found += [f"image without words: {html}" for html in self.page.evaluate(NO_ALT)]
        found += [f"formula: {text}" for text in self.page.evaluate(NO_FORMULA)]
        found += [f"request to {url}" for url in self.foreign]
        return found + [f"console: {e}" for e in self.errors]

    # ---- run ---------------------------------------------------------------------------------

    def run_all(self) -> None:
        """Run All Cells of a notebook without prompts, once its kernel is there.

        JupyterLab forgets the order where it comes too early: then it is given again.
        """
        self.page.get_by_text("| Idle").first.wait_for(timeout=120_000)
        for _ in range(3):
            self.page.get_by_role("menuitem", name="Run", exact=True).first.click()
            menu = self.page.locator("#jp-mainmenu-run")
            menu.get_by_text("Run All Cells", exact=True).click()
            if self.wait(HAS_BEGUN, None, 15):
                return

    def run_problems(
        self, word: str, widgets: int, seconds: float = 900, patience: float = 20
    ) -> list[str]:
        """Faults after Run All: not run to its last `word`, errors, another number of widgets.

        A control has `patience` seconds to answer.
        """
        found = []
        if not self.wait(LAST_WORD_OR_ERROR, [word, ERROR], seconds):
            found.append("the last cell did not run")
        self.page.wait_for_timeout(1500)
        errors = self.page.locator(ERROR).count()
        if errors:
            found.append(f"{errors} outputs with errors or stderr")
        live = self.page.locator(LIVE).count()
        if live != widgets:
            found.append(f"{live} live widgets, {widgets} are wanted")
        for box in self.page.locator(LIVE).all():
            found += Driver(self.page, box, patience).drive()
        return found + self.page_problems()


BROKEN_IMAGES = """() => [...document.querySelectorAll('.jp-Notebook img')]
    .filter(i => !i.complete || i.naturalWidth === 0).map(i => i.alt)"""
TOO_WIDE = """() => [...document.querySelectorAll('.jp-OutputArea-output, .jp-RenderedMarkdown')]
    .filter(e => e.scrollWidth > e.clientWidth + 2)
    .map(e => `${e.scrollWidth} of ${e.clientWidth} points: ${e.textContent.slice(0, 100)}`)"""
# JupyterLab writes "Image" where an image has no words, so that axe finds nothing
NO_ALT = """() => [...document.querySelectorAll('.jp-Notebook img')]
    .filter(i => ['', 'Image'].includes(i.alt.trim())).map(i => i.src.slice(0, 60))"""
NO_FORMULA = """() => [...document.querySelectorAll(
    'mjx-merror, mjx-mtext[style*="color: red"]')]
    .map(e => e.closest('mjx-container').textContent.slice(0, 100))"""
HAS_BEGUN = """() => [...document.querySelectorAll('.jp-InputPrompt')]
    .some(e => /[*\\d]/.test(e.textContent))"""
LAST_WORD_OR_ERROR = """([word, error]) => document.querySelector(error) !== null
    || [...document.querySelectorAll('.jp-OutputArea-output')]
       .some(e => e.textContent.includes(word))"""
