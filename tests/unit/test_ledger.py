"""The lock of the test set, and the ledger that remembers it over objects, processes and days."""

import dataclasses
import datetime
import json
import subprocess
import sys

import numpy as np
import pytest

from medtl_utils import ledger, load_task
from medtl_utils.data import Task, TestSetOpened
from tests.conftest import ROOT, make_split


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDTL_LEDGER", str(tmp_path / "ledger"))
    monkeypatch.setattr(ledger, "_told", set())
    return tmp_path / "ledger"


def task(name="mine", seed=2, ids="mine", size=32) -> Task:
    test = make_split("test", 16, seed=seed, size=size)
    if ids:
        test.ids = np.array([f"{ids}/test/{i}" for i in range(16)])
    return Task(name, make_split("train"), make_split("val", 12, seed=1), "a card", test)


def lines(folder) -> list[dict]:
    text = (folder / ledger.FILE).read_text()
    return [json.loads(line) for line in text.splitlines() if line]


# ---- the lock ------------------------------------------------------------------------------------


def test_test_set_opens_once(folder):
    mine = task()
    with pytest.raises(ValueError, match="why the test set is opened"):
        mine.open_test("  ")
    assert "locked" in repr(mine) and not folder.exists()
    assert len(mine.open_test("final")) == 16
    with pytest.raises(TestSetOpened, match="'final'"):
        mine.open_test("again")
    mine.open_test("a reviewer asked", reopen=True)
    assert [o["reason"] for o in mine.openings] == ["final", "a reviewer asked"]
    assert [o["before"] for o in mine.openings] == [0, 1]
    assert [(e["opening"], e["task"]) for e in lines(folder)] == [(1, "mine"), (2, "mine")]
    assert "opened 2 time(s)" in repr(mine) and mine.openings_before() == []


def test_loading_again_does_not_start_at_zero(capsys):
    first, second, third = task(), task(), task()
    first.open_test("choosing a model")
    assert "before" not in capsys.readouterr().out
    assert "locked; opened 1 time before, last today for: 'choosing a model'" in repr(second)
    second.open_test("final result")
    said = "This test set was opened 1 time before, last today for: 'choosing a model'.\n"
    assert capsys.readouterr().out == said
    assert second.openings[-1]["before"] == 1 and first.openings[-1]["before"] == 0
    assert [set(e) for e in second.openings_before()] == [{"time", "reason"}]
    third.open_test("once more")
    assert capsys.readouterr().out == "", "it is said once a process"
    assert third.openings[-1]["before"] == 2 and len(third.openings_before()) == 2
    assert len(second.openings_before()) == 1, "what came later was not before"


def test_the_sentence():
    on = [{"time": f"2025-01-0{d}T10:00:00", "reason": f"look {d}"} for d in (1, 2, 3)]
    assert ledger.sentence(on) == "opened 3 times before, last on 2025-01-03 for: 'look 3'"
    assert ledger.sentence([]) == "never opened before"


def test_opening_without_a_writable_ledger_is_noted(folder, tmp_path):
    folder.write_text("a file where the folder should be")
    mine = task()
    assert len(mine.open_test("final")) == 16
    assert "read-only" in mine.openings[0]["log"] and mine.openings[0]["before"] == 0
    mine.open_test("again", reopen=True)
    assert mine.openings[1]["before"] == 1


def test_nobody_is_named(folder, tmp_path):
    for name in (f"folder:{tmp_path}/cases", r"folder:C:\Users\someone\cases"):
        task(name).open_test("final")
    text = (folder / ledger.FILE).read_text()
    assert str(tmp_path) not in text and "someone" not in text
    assert [e["task"] for e in lines(folder)] == ["cases", "cases"]
    written = datetime.datetime.fromisoformat(lines(folder)[0]["time"])
    assert abs((datetime.datetime.now() - written).total_seconds()) < 60


# ---- the key -------------------------------------------------------------------------------------


def key(size=16, n_train=25, seed=3, root=None) -> str:
    return load_task("phantom", size=size, n_train=n_train, seed=seed, root=root)._test_key


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("phantom")


def key_faults(cache) -> set[str]:
    """What is wrong with the key of the phantom's test set."""
    plain = key(root=cache)
    faults = set()
    if key(size=20, root=cache) != plain:
        faults.add("another size is another test set")
    if key(n_train=60, root=cache) != plain:
        faults.add("other labelled images make another test set")
    if key(seed=4, root=cache) == plain:
        faults.add("other patients are the same test set")
    return faults


def test_the_key_is_the_content(cache):
    assert key_faults(cache) == set()


@pytest.mark.parametrize(
    ("mutant", "fault"),
    [
        (lambda ids, labels, images: str(hash(images.tobytes())), "another size"),
        (lambda ids, labels, images: "the phantom", "other patients"),
    ],
)
def test_wrong_keys_are_found(mutant, fault, cache, monkeypatch):
    monkeypatch.setattr(ledger, "content_key", mutant)
    assert any(f.startswith(fault) for f in key_faults(cache))


def test_the_key_without_ids():
    key_of = lambda **change: task(ids=None, **change)._test_key
    assert key_of() == key_of() and key_of() != key_of(seed=5)
    mine = task()
    shuffled = dataclasses.replace(task(), _test=mine._test[np.arange(16)[::-1]])
    assert mine._test_key == shuffled._test_key != task(ids="yours")._test_key
    fewer = dataclasses.replace(task(), _test=mine._test[:15])
    assert fewer._test_key != mine._test_key


# ---- the file ------------------------------------------------------------------------------------

WRITER = """
import sys
from medtl_utils import ledger
for number in range(50):
    ledger.append("one test set", {"reason": f"{sys.argv[1]} {number} " + "x" * 3000})
"""


def test_two_processes_write_whole_lines(folder):
    command = [sys.executable, "-c", WRITER]
    running = [subprocess.Popen([*command, who], cwd=ROOT) for who in ("first", "second")]
    assert [process.wait(60) for process in running] == [0, 0]
    reasons = sorted(e["reason"].rstrip("x").strip() for e in lines(folder))
    assert reasons == sorted(f"{who} {n}" for who in ("first", "second") for n in range(50))
    assert len(ledger.read("one test set")) == 100


def test_damaged_lines_are_passed_over(folder):
    ledger.append("a", {"reason": "one"})
    file = folder / ledger.FILE
    whole = file.read_bytes()
    for cut in range(1, len(whole)):
        file.write_bytes(whole + whole[:-cut])
        assert len(ledger.read("a")) == 1 + (cut == 1), "all is there but the end of the line"
    file.write_bytes(whole + b"\xff\xfe no json\n[1]\n3\nnull\n" + whole[:30])
    ledger.append("a", {"reason": "two"})
    assert [e["reason"] for e in ledger.read("a")] == ["one", "two"]
    assert ledger.read("b") == []
    file.write_bytes(b'{"key": "a"}\n')
    assert ledger.read("a") == [{"time": "unknown", "reason": "unknown"}]


def test_a_line_glued_to_a_cut_one_would_be_lost(folder):
    """The planted mistake beside the test above: a line without a line end before it."""
    ledger.append("a", {"reason": "one"})
    glued = json.dumps({"time": "2026-01-01", "key": "a", "reason": "two"}).encode() + b"\n"
    with open(folder / ledger.FILE, "ab") as file:
        file.write(b'{"time": "2026' + glued)
    assert [e["reason"] for e in ledger.read("a")] == ["one"]
