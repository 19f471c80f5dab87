"""One runner for all studies: each cell is made once and kept whole; all cells make one table.

    python -m studies.leakage                what is missing, cell after cell, then the table
    python -m studies.leakage --share 1/4    only the first quarter of the cells, no table
    python -m studies.leakage --minutes 30   begin no further cell after 30 minutes
    python -m studies.leakage --scheduler local:4    in four processes, by Dask

Each cell is one file in the cache folder, studies/NAME/. Its name and its checksum hold a key: the
SHA-256 of the recipe, of the code that makes it, and of the weights it starts from. A file that is
cut off, changed, or of another key is not read; the cell is made again. A kill at any moment loses
the running cell and nothing else.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import torch

from medtl_utils.data import Split, Task
from medtl_utils.models import ULTRASOUND_FILE
from medtl_utils.paths import data_folder
from studies import schedulers
from studies.cache import HELPER, keep, made_by, pack, place, read, sha256_of, unpack
from studies.tables import tidy, versions, write_table

ULTRASOUND = data_folder() / ULTRASOUND_FILE


@dataclass(frozen=True)
class Study:
    """A table and how it is made.

    `cells`: one dict of plain values a cell, its recipe. `run(**cell)`: a function at the top of
    its module, returns a dict of arrays and numbers. `table(results)`: from a list of (cell,
    arrays) to the rows of the table, a dict. `recipe`, `seeds`, `about`: what the table says beside
    its rows. `code`: the modules whose text decides over a cell, besides the part of its own module
    that `run` reaches. `weights`: the file that all cells start from, or None, or a function that
    tells it, or its SHA-256, for a cell. `archive`: an npz file that keeps all cells where the
    table lies; cells are taken from it as from the cache, and put into it when no share was asked
    for.
    """

    name: str
    cells: list[dict]
    run: Callable[..., dict]
    table: Callable[[list[tuple[dict, dict]]], dict]
    recipe: str
    seeds: Sequence[int] | dict
    about: dict = field(default_factory=dict)
    code: tuple[str, ...] = HELPER
    weights: Path | None | Callable[[dict], Path | str | None] = ULTRASOUND
    decimals: int = 4
    archive: Path | None = None


def _weights(study: Study, cell: dict) -> Path | str | None:
    return study.weights(cell) if callable(study.weights) else study.weights


def _makers(study: Study) -> list[str]:
    """What decides over each cell, beside its recipe; files are read once."""
    made_from = lru_cache(partial(made_by, study.run, study.code))
    return [made_from(_weights(study, cell)) for cell in study.cells]


def _digests(study: Study) -> dict[str, str | list[str]]:
    """The SHA-256 of the weights: of the one file, or of all."""
    found = sorted({start for cell in study.cells if (start := _weights(study, cell))})
    digests = [sha256_of(start) if isinstance(start, Path) else start for start in found]
    if callable(study.weights):
        return {"source_sha256": digests}
    return {"source_sha256": digests[0]} if digests else {}


def opened(task: Task, reason: str) -> Split:
    """The test set, also in the second process of a study; the ledger notes each opening."""
    return task.open_test(reason, reopen=True)


def share_of(cells: list, share: tuple[int, int] | None) -> list:
    """The cells of a share, whatever is made already: two shares have none in common."""
    return cells if share is None else cells[share[0] - 1 :: share[1]]


def _cell(study: str, run: Callable, deadline: float, job: tuple[dict, str]) -> None:
    cell, maker = job
    if time.time() < deadline:
        keep(study, cell, partial(run, **cell), maker)


def run(
    study: Study,
    share: tuple[int, int] | None = None,
    minutes: float | None = None,
    executor: Executor | None = None,
) -> dict | None:
    """Make the missing cells, write the table and return it; None where cells are still missing.

    `share`: (1, 4) makes only the first quarter of the cells, and no table.
    `minutes`: no cell begins later.
    `executor`: any of concurrent.futures; None: in this process, one after the other.
    """
    jobs = list(zip(study.cells, _makers(study)))
    places = [place(study.name, *job) for job in jobs]
    if study.archive:
        unpack(study.archive, places)
    deadline = math.inf if minutes is None else time.time() + 60 * minutes
    each = map if executor is None else executor.map
    list(each(partial(_cell, study.name, study.run, deadline), share_of(jobs, share)))
    if share is not None:
        return None
    if study.archive:
        print(f"{pack(study.archive, places)} cells are in {study.archive.name}")
    results = [(cell, read(*where)) for cell, where in zip(study.cells, places)]
    if missing := sum(found is None for _, found in results):
        print(f"{missing} of {len(results)} cells are missing. Run the same command again.")
        return None
    seconds = sum(float(found.pop("seconds")) for _, found in results)
    table = {
        "command": f"python -m studies.{study.name}",
        "recipe": study.recipe,
        **study.about,
        "seeds": study.seeds,
        "versions": versions(),
        "threads": torch.get_num_threads(),
        **_digests(study),
        "minutes": round(seconds / 60, 1),
        **study.table(results),
    }
    print(f"wrote {write_table(study.name, table, study.decimals)}")
    return tidy(table, study.decimals)


def kept(study: Study) -> list[tuple[dict, dict]]:
    """The cells of another study that are made already, with their arrays.

    Raises SystemExit where some are missing.
    """
    places = [place(study.name, *job) for job in zip(study.cells, _makers(study))]
    if study.archive:
        unpack(study.archive, places)
    found = [(cell, read(*where)) for cell, where in zip(study.cells, places)]
    if missing := sum(arrays is None for _, arrays in found):
        raise SystemExit(f"{missing} cells are missing. Run: python -m studies.{study.name}")
    return found


def share_in(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"give a share as 1/4 up to 4/4; got {text!r}")
    return int(found[1]), int(found[2])


def main(study: Study) -> None:
    """The command line of a study.

    One thread a process: shares side by side use several cores.
    """
    parser = argparse.ArgumentParser(description=f"Make data/results/{study.name}.json.")
    parser.add_argument(
        "--share", type=share_in, help="1/4: the first quarter of the cells, no table"
    )
    parser.add_argument("--minutes", type=float, help="begin no cell after so many minutes")
    parser.add_argument(
        "--scheduler", help="local, local:4, or the address of a Dask scheduler, tcp://host:8786"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.scheduler is None:
        run(study, asked.share, asked.minutes)
        return
    with schedulers.executor(asked.scheduler) as executor:
        run(schedulers.importable(study), asked.share, asked.minutes, executor)
