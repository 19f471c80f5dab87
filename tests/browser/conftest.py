"""One browser and one JupyterLab for all tests of this folder."""

import shutil

import pytest

from tests.browser.lab import SWITCHES, chromium, jupyterlab
from tests.conftest import ROOT


@pytest.fixture(scope="session")
def browser():
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=path, args=SWITCHES.split())
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """(folder with copies of the notebooks, address, token)."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder)
    with jupyterlab(folder, home) as (address, token):
        yield folder, address, token
