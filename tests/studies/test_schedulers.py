"""The studies' cells on Dask's workers: a worker dies, and no cell is lost or made twice."""

import dataclasses
import sys
from collections import Counter
from pathlib import Path

import pytest

from studies import cache, runner, schedulers
from tests.studies.test_runner import EVERY, end, made, plant, rows, start, toy  # noqa: F401

# the worker that makes cell 6 kills itself, once; it holds what it has done before
DIES = """def run(x):
    time.sleep(float(os.environ.get("TOY_PAUSE", 0)))
    with open(HERE / "begun", "a") as log:
        log.write(f"{x}\\n")
    if x == 6 and not (HERE / "killed").exists():
        (HERE / "killed").touch()
        os.kill(os.getpid(), 9)"""
RUN = 'def run(x):\n    time.sleep(float(os.environ.get("TOY_PAUSE", 0)))'
FORGETS = "studies.cache.read = lambda file, key: None\n\n\n"


def run_by_command(study, monkeypatch, scheduler: str) -> None:
    monkeypatch.setattr(sys, "argv", ["toy", "--scheduler", scheduler])
    runner.main(study)


def begun(folder: Path) -> Counter:
    return Counter(map(int, (folder / "begun").read_text().split()))


def test_a_killed_worker_loses_its_running_cell(toy, tmp_path, monkeypatch):  # noqa: F811
    from distributed import LocalCluster

    plain = plant(tmp_path / "plain")
    assert end(start(plain)) == 0  # before Dask's threads: it forks
    study = toy(RUN, DIES)
    with LocalCluster(1, threads_per_worker=1, dashboard_address=None) as cluster:
        run_by_command(study, monkeypatch, cluster.scheduler_address)
    assert (toy.folder / "killed").exists()
    assert begun(toy.folder) == EVERY + Counter([6]) and made(toy.folder) == EVERY
    files = list((toy.folder / "studies" / "toy").iterdir())
    assert len(files) == 8 and all(file.suffix == ".npz" for file in files)
    assert rows(plain) == rows(toy.folder)


def test_the_test_of_the_killed_worker_bites(toy, monkeypatch):  # noqa: F811
    """Planted: cells that do not look for their file; what the dead worker did is made again."""
    monkeypatch.setattr(cache, "read", cache.read)  # put back at the end
    study = toy(RUN, FORGETS + DIES)
    run_by_command(study, monkeypatch, "local:1")
    assert (toy.folder / "killed").exists() and sum(made(toy.folder).values()) > 8


def test_what_cannot_be_reached(monkeypatch):
    monkeypatch.setattr("distributed.Client", lambda where: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(SystemExit, match="No scheduler answers at tcp://nowhere:1 .no."):
        with schedulers.executor("tcp://nowhere:1"):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SystemExit, match=r"machines"):
        with schedulers.executor("local"):
            pass


def test_a_study_that_runs_as_a_program_can_be_imported(monkeypatch):
    import studies.genes as genes

    study = genes.STUDY
    assert schedulers.importable(study) is study
    as_program = type(genes.run)(genes.run.__code__, globals(), "run")
    as_program.__module__ = "__main__"
    mine = schedulers.importable(dataclasses.replace(study, run=as_program))
    assert mine.run is genes.run
