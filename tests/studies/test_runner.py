"""The runner of the studies: kills, damaged files, changed recipes, shares, executors, tables."""

import dataclasses
import importlib.util
import json
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from studies import cache, runner, tables
from tests.conftest import ROOT

TOY = (Path(__file__).parent / "toy_study.py").read_text()


def plant(folder: Path) -> Path:
    """The toy study in a folder of its own, with a helper and weights."""
    folder.mkdir(parents=True)
    (folder / "toy.py").write_text(TOY)
    (folder / "toy_helper.py").write_text("FACTOR = 1\n")
    (folder / "weights").write_bytes(b"1234")
    return folder


def load_toy(folder: Path):
    spec = importlib.util.spec_from_file_location("toy", folder / "toy.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = module
    spec.loader.exec_module(module)
    return module


def child(folder: Path, arguments: list[str], moment: str, pause: float) -> None:
    os.environ["TOY_PAUSE"] = str(pause)
    sys.path.insert(0, str(folder))
    sys.argv = ["toy.py", *arguments]
    toy = load_toy(folder)
    toy.die(moment)
    runner.main(toy.STUDY)


def start(folder: Path, *arguments: str, moment: str = "", pause: float = 0.0):
    """The toy study in a process of its own, which can be killed."""
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=child, args=(folder, arguments, moment, pause))
    process.start()
    return process


def end(process) -> int:
    """Its exit status; -9 after SIGKILL."""
    process.join(120)
    return process.exitcode


def made(folder: Path) -> Counter:
    """How often each cell was made."""
    log = folder / "log"
    return Counter(map(int, log.read_text().split())) if log.is_file() else Counter()


def rows(folder: Path) -> dict:
    kept = json.loads((folder / "results" / "toy.json").read_text())
    return {name: value for name, value in kept.items() if name != "minutes"}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy study in this process; `toy(old, new)` with a change of its text."""
    folder = plant(tmp_path / "toy")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(cache, "cache_folder", lambda: folder)
    monkeypatch.setattr(tables, "data_folder", lambda: folder)

    def load(old: str = "", new: str = ""):
        assert old in TOY
        (folder / "toy.py").write_text(TOY.replace(old, new) if old else TOY)
        module = load_toy(folder)
        return module.STUDY

    load.folder = folder
    yield load
    sys.modules.pop("toy", None)


EVERY = Counter(range(1, 9))


# ---- kills ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    folder = plant(tmp_path_factory.mktemp("studies") / "undisturbed")
    assert end(start(folder)) == 0 and made(folder) == EVERY
    return rows(folder)


@pytest.mark.parametrize("moment", ["within 3", "before the name 3", "after 3"])
def test_a_kill_loses_the_running_cell_at_most(tmp_path, undisturbed, moment):
    folder = plant(tmp_path / "killed")
    assert end(start(folder, moment=moment)) == -signal.SIGKILL
    assert not (folder / "results").exists()
    assert end(start(folder)) == 0
    twice = Counter() if moment == "after 3" else Counter([3])
    assert made(folder) == EVERY + twice and rows(folder) == undisturbed


def test_kills_at_any_moment(tmp_path, undisturbed):
    folder, kills = plant(tmp_path / "killed"), 0
    while not (folder / "results" / "toy.json").is_file():
        process, before = start(folder, pause=0.1), made(folder)
        while process.is_alive() and sum((made(folder) - before).values()) < 4:
            time.sleep(0.02)
        process.kill()
        process.join()
        kills += 1
        assert kills < 10
    assert kills >= 2 and sum(made(folder).values()) <= 8 + kills and rows(folder) == undisturbed


# ---- damaged files -------------------------------------------------------------------------------


def notices_damage(key: str, file: Path, read) -> bool:
    """Every flipped bit and every cut gives the same arrays or None, and never others."""
    good, right = file.read_bytes(), read(file, key)
    for place in np.linspace(0, len(good) - 1, 120).astype(int):
        flipped = bytearray(good)
        flipped[place] ^= 0x10
        for bad in (bytes(flipped), good[:place]):
            file.write_bytes(bad)
            got = read(file, key)
            if got is not None and not all(np.array_equal(got.get(k), right[k]) for k in right):
                return False
            if got is not None and len(bad) < len(good):
                return False
    file.write_bytes(good)
    return read(file, key) is not None and read(file, key + "x") is None


def reads_what_it_can(file, key):
    """Planted: no checksum; what cannot be read is empty."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except Exception:
        return {}


def test_damaged_files_are_made_again(toy):
    study = toy()
    runner.run(study)
    file = next((toy.folder / "studies" / "toy").glob("5_*.npz"))
    maker = cache.made_by(study.run, study.code, study.weights)
    place, key = cache.place("toy", {"x": 5}, maker)
    assert place == file and notices_damage(key, file, cache.read)
    for bad in (file.read_bytes()[:100], b"", next(file.parent.glob("6_*.npz")).read_bytes()):
        file.write_bytes(bad)  # cut off, empty, the file of another cell
        before = made(toy.folder)
        assert runner.run(study) and made(toy.folder) - before == Counter([5])


def test_the_damage_test_bites(toy):
    study = toy()
    runner.run(study)
    maker = cache.made_by(study.run, study.code, study.weights)
    file, key = cache.place("toy", {"x": 5}, maker)
    assert not notices_damage(key, file, reads_what_it_can)


# ---- recipe, code, weights -----------------------------------------------------------------------


def what_is_made_again(toy, change) -> list[int]:
    """The cells that a second run makes after `change`, which returns the study."""
    runner.run(toy())
    before = made(toy.folder)
    runner.run(change())
    return sorted((made(toy.folder) - before).elements())


def with_text(toy, file: str, content: str):
    (toy.folder / file).write_text(content)
    return toy()


CHANGES = {
    "a constant": (lambda toy: toy("SCALE = 2", "SCALE = 3"), range(1, 9)),
    "a function that run calls": (lambda toy: toy("SCALE * x", "SCALE * x + 1"), range(1, 9)),
    "a module": (lambda toy: with_text(toy, "toy_helper.py", "FACTOR = 2\n"), range(1, 9)),
    "weights": (lambda toy: with_text(toy, "weights", "1235"), range(1, 9)),
    "a recipe": (lambda toy: dataclasses.replace(toy(), cells=[{"x": 1}, {"x": 9}]), [9]),
    "a comment": (lambda toy: toy("SCALE = 2", "SCALE = 2  # twice"), []),
    "the table": (lambda toy: toy('found["y"].sum()', 'found["y"].max(initial=0)'), []),
    "nothing": (lambda toy: toy(), []),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_makes_anew_what_depends_on_it(toy, what):
    change, again = CHANGES[what]
    assert what_is_made_again(toy, lambda: change(toy)) == list(again)


def test_the_change_test_bites(toy, monkeypatch):
    """Planted: a key that ignores code and weights."""
    monkeypatch.setattr(runner, "made_by", lambda *a: "always the same")
    for what in ("a constant", "a module", "weights"):
        assert what_is_made_again(toy, lambda what=what: CHANGES[what][0](toy)) == []


# ---- shares, minutes, executors ------------------------------------------------------------------


def test_two_shares_side_by_side(tmp_path, undisturbed):
    folder = plant(tmp_path / "shared")
    both = [start(folder, "--share", f"{k}/2", pause=0.1) for k in (1, 2)]
    assert [end(process) for process in both] == [0, 0]
    assert made(folder) == EVERY and not (folder / "results").exists()
    assert end(start(folder)) == 0
    assert made(folder) == EVERY and rows(folder) == undisturbed


def test_shares_cover_all_cells_once():
    cells = list(range(11))
    for n in (1, 2, 4, 20):
        parts = [runner.share_of(cells, (k, n)) for k in range(1, n + 1)]
        assert sorted(sum(parts, [])) == cells
    for wrong in ("0/4", "5/4", "1", "a/b", "1/4 "):
        with pytest.raises(Exception, match="1/4 up to 4/4"):
            runner.share_in(wrong)
    assert runner.share_in("2/4") == (2, 4)


def test_minutes_and_executor(toy, undisturbed):
    assert runner.run(toy(), minutes=0) is None and not made(toy.folder)
    with ThreadPoolExecutor(3) as pool:
        table = runner.run(toy(), executor=pool)
    assert made(toy.folder) == EVERY and table["rows"] == undisturbed["rows"]


def test_every_study_can_be_handed_to_another_process():
    for study in all_studies():
        pickle.loads(pickle.dumps(partial(runner._cell, study.name, study.run, 0.0)))
        assert len({json.dumps(cell) for cell in study.cells}) == len(study.cells)
        places = {cache.place(study.name, cell, "")[0] for cell in study.cells}
        assert len(places) == len(study.cells)


def all_studies() -> list[runner.Study]:
    names = [p.stem for p in (ROOT / "studies").glob("*.py")]
    modules = [importlib.import_module(f"studies.{name}") for name in sorted(names)]
    return [module.STUDY for module in modules if hasattr(module, "STUDY")]


# ---- tables --------------------------------------------------------------------------------------


def interval_is_scipys(function) -> bool:
    values = np.random.default_rng(0).normal(0.8, 0.05, 7)
    want = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    got = function(values)
    return np.allclose(
        [got["value"], got["low"], got["high"]], [values.mean(), want.low, want.high]
    )


def test_the_interval_over_seeds():
    assert interval_is_scipys(tables.over_seeds)
    assert not interval_is_scipys(lambda v: tables.over_seeds(v, level=0.9))
    assert not interval_is_scipys(lambda v: tables.over_seeds(np.concatenate([v, v])))
    assert tables.over_seeds([0.5] * 4) == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert tables.over_seeds([0.9, 0.99, 1.0], bounds=(0, 1))["high"] == 1


def test_tables_are_rounded_and_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "data_folder", lambda: tmp_path)
    kept = {"a": np.float32(1 / 3), "b": [np.arange(2), (1.23456, True)], "c": {"d": range(2)}}
    file = tables.write_table("x", kept)
    right = '{"a": 0.3333, "b": [[0, 1], [1.2346, true]], "c": {"d": [0, 1]}}'
    assert json.loads(file.read_text()) == json.loads(right)
    before = file.read_text()
    for wrong in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            tables.write_table("x", {"a": wrong})
    assert file.read_text() == before and [p.name for p in file.parent.iterdir()] == ["x.json"]
