"""Where files lie: what ships, what is downloaded, what may be made again, what is written."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

REPOSITORY = Path(__file__).resolve().parents[1]
APP = "medtl_utils"


def in_checkout() -> bool:
    """Whether this is the repository and not an installed package."""
    return (REPOSITORY / "pyproject.toml").is_file()


def data_folder() -> Path:
    """The files that ship: the repository's data/, or the package's own. Read only."""
    return REPOSITORY / "data" if in_checkout() else Path(__file__).parent / "data"


def download_folder() -> Path:
    """Where downloads are kept: the repository's data/, or the user's data folder.

    Never inside an installed package.
    """
    return REPOSITORY / "data" if in_checkout() else platformdirs.user_data_path(APP)


def cache_folder() -> Path:
    """What can be made again: data/cache/ of the repository, or the user's cache folder."""
    return REPOSITORY / "data" / "cache" if in_checkout() else platformdirs.user_cache_path(APP)


def ledger_folder() -> Path:
    """Where openings of test sets are written down: MEDTL_LEDGER, or the user's state folder."""
    named = os.environ.get("MEDTL_LEDGER")
    return Path(named) if named else platformdirs.user_state_path(APP)


def output_folder() -> Path:
    """Where results are written: MEDTL_OUTPUT, or outputs/ of the repository or working folder."""
    named = os.environ.get("MEDTL_OUTPUT")
    return Path(named) if named else (REPOSITORY if in_checkout() else Path.cwd()) / "outputs"
