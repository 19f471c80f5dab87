"""A study of eight cells."""

import os
import time
from pathlib import Path

import numpy as np

import studies.cache
import studies.tables
from studies.runner import Study

HERE = Path(__file__).parent
SCALE = 2


def double(x):
    return SCALE * x


def run(x):
    time.sleep(float(os.environ.get("TOY_PAUSE", 0)))
    with open(HERE / "log", "a") as log:
        log.write(f"{x}\n")
    return {"y": np.arange(x) * double(x), "z": double(x) / 3}


def table(results):
    return {"rows": [cell | {"sum": found["y"].sum(), "z": found["z"]} for cell, found in results]}


STUDY = Study(
    name="toy",
    cells=[{"x": x} for x in range(1, 9)],
    run=run,
    table=table,
    recipe="doubling",
    seeds=range(8),
    code=("toy_helper",),
    weights=HERE / "weights",
)
studies.cache.cache_folder = studies.tables.data_folder = lambda: HERE


def die(moment):
    """This process kills itself: within the third write ("within 3"), ..."""
    call = [0]
    write, replace = np.savez, os.replace

    def dies_while_writing(out, **arrays):
        call[0] += 1
        if moment == f"within {call[0]}":
            out.write(b"PK half of a file")
            out.flush()
            os.kill(os.getpid(), 9)
        write(out, **arrays)
        if moment == f"before the name {call[0]}":
            out.flush()
            os.kill(os.getpid(), 9)

    def dies_after(part, file):
        replace(part, file)
        if moment == f"after {call[0]}":
            os.kill(os.getpid(), 9)

    np.savez, os.replace = dies_while_writing, dies_after
