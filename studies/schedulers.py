"""The cells of a study on several machines, by Dask (BSD-3-Clause; the extra `machines`).

    python -m studies.genes --scheduler local:4           four processes on this machine
    python -m studies.genes --scheduler tcp://host:8786   whatever `dask worker` serves there

Start `dask scheduler` once, and `dask worker ADDRESS --nthreads 1` in this folder on each machine.
All of them need one checkout on a shared disk, and so one folder of cells (data/cache): a cell is
done when its file lies there. When a worker dies, Dask gives its cells to
others, those too that were done; these find their file and are not made twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.runner import Study

DEATHS = 10  # so many workers may die over a cell before it counts as the cell's own fault


@contextlib.contextmanager
def executor(scheduler: str) -> Iterator[Executor]:
    """An executor of `concurrent.futures` on Dask.

    `scheduler`: "local" (a process for each core), "local:4", or an address ("tcp://host:8786").
    Whoever reaches a scheduler's port can run code: use a closed network. A scheduler at an address
    has its own limit of deaths: DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=10 dask scheduler.
    Raises SystemExit where Dask is not installed or nothing answers at the address.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise SystemExit('--scheduler needs Dask: pip install -e ".[machines]"') from error
    local = re.fullmatch(r"local(?::([1-9]\d*))?", scheduler)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}))
        where = scheduler
        if local:
            processes = int(local[1] or os.cpu_count() or 1)
            where = stack.enter_context(
                LocalCluster(processes, threads_per_worker=1, dashboard_address=None)
            )
        try:
            client = stack.enter_context(Client(where))
        except (OSError, ValueError) as error:
            raise SystemExit(f"No scheduler answers at {scheduler} ({error}).") from error
        with client.get_executor(pure=False) as pool:
            yield pool


def importable(study: Study) -> Study:
    """The study with a `run` that another process can import; a program's own is `__main__`'s."""
    if study.run.__module__ != "__main__":
        return study
    module = importlib.import_module(f"studies.{study.name}")
    return dataclasses.replace(study, run=getattr(module, study.run.__name__))
