"""The race of training loops: the same work in every loop, a table that follows from its rows."""

import copy
import re

import pytest
import torch

from medtl_utils.data import Task
from studies import speed, speed_loops, speed_other
from studies.speed_audit import audit
from studies.speed_loops import LOOPS, OURS
from tests.conftest import ROOT, make_split

WITHOUT = [name for name, (_, framework, _) in LOOPS.items() if framework is None]


# ---- the loops ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy() -> Task:
    """Images whose left and right differ, so that a flip shows; sides of 32 pixels."""
    task = Task("toy", make_split("train"), make_split("val", 12, seed=1))
    for split in (task.train, task.val):
        split.images[..., :16] //= 2
    return task


def test_the_loops_do_the_same_work(toy):
    """Same images in the same batches, same updates; the same weights where nothing is random."""
    found = audit(WITHOUT, toy, speed.start)
    assert [row["loop"] for row in found if not row["same"]] == []
    assert {tuple(row["updates"]) for row in found} == {(6, 6)}


def without_augmentation(job):
    job.augmented = False
    speed_loops.plain(job)


def half_the_updates(job):
    job.epochs //= 2
    speed_loops.plain(job)


def another_order(job):
    job.seed += 1
    speed_loops.plain(job)


def another_optimiser(job):
    job.recipe = lambda params: (
        (optimizer := torch.optim.SGD(params, lr=1e-3)),
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=job.steps),
    )
    speed_loops.plain(job)


MUTANTS = (without_augmentation, half_the_updates, another_order, another_optimiser)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_the_audit_bites(mutant, toy, monkeypatch):
    monkeypatch.setitem(LOOPS, "planted", (mutant, None, {}))
    (row,) = audit(["planted"], toy, speed.start)
    assert not row["same"], row


def test_a_missing_framework_is_an_error(monkeypatch):
    monkeypatch.setitem(LOOPS, "planted", (None, "no_such_framework", {}))
    with pytest.raises(ModuleNotFoundError, match=r"(?s)no_such_framework.*venv.*--only"):
        speed_loops.must_be_there([OURS, "planted"])
    speed_loops.must_be_there(WITHOUT)


@pytest.mark.check
def test_the_environments_command_names_what_is_raced():
    listed = (ROOT / "studies" / "speed_frameworks.txt").read_text()
    named = set(re.findall(r"^(\w+)==", listed, re.M))
    assert named == {framework for _, framework, _ in LOOPS.values()} - {None}
    assert "-r studies/speed_frameworks.txt" in speed_loops.INSTALL


# ---- the other rows ------------------------------------------------------------------------------


def heads_apart(toy, monkeypatch, spoil=False) -> float:
    """How far the head on cached features ends from that trained through the frozen trunk."""
    monkeypatch.setattr(speed_loops.training, "native_bfloat16", lambda: False)
    if spoil:  # planted: features of images that are not normalised
        plain = speed_other.features
        spoiled = lambda model, split: plain(_unnormalised(model), split)
        monkeypatch.setattr(speed_other, "features", spoiled)
    through, cached, took = speed_other.frozen_pair(toy, 2, 0, 8)
    assert min(took.values()) > 0
    begin, one, other = (m.fc.weight.detach() for m in (speed.start(0), through, cached))
    return float((one - other).norm() / (one - begin).norm())


def _unnormalised(model):
    other = copy.deepcopy(model)
    other.normalisation = lambda x: x.float().expand(-1, 3, -1, -1)
    return other


def test_cached_features_train_the_same_head(toy, monkeypatch):
    assert heads_apart(toy, monkeypatch) < 0.02
    assert heads_apart(toy, monkeypatch, spoil=True) > 0.5


# ---- rounds -------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Without time left there is one round; the next run makes the others, none of them twice."""
    made = []
    one = lambda names, *key: made.append(key) or [{"round": key[2]}]
    monkeypatch.setattr(speed, "one_round", one)
    file = tmp_path / "outputs" / "rounds.jsonl"
    assert len(speed.all_rounds([OURS], file, until=0)) == 1 and made == speed.planned()[:1]
    assert len(speed.all_rounds([OURS], file)) == len(speed.planned())
    assert made == speed.planned() and len(set(made)) == len(made)


def test_the_summary_follows_from_the_rounds():
    """Medians and ratios of made-up rounds, by hand."""
    rows = [
        {"loop": name, "size": 64, "batch": 8, "round": k, "own": own, "wall": 2 * own}
        | {"auc": 0.9 - 0.1 * (name != OURS), "updates": 4}
        for name, times in {OURS: (1, 2, 4), "skorch": (2, 6, 4)}.items()
        for k, own in enumerate(times)
    ]
    ours, other = speed.summary(rows)
    assert (ours["seconds_epoch"], ours["ratio"], ours["auc_minus_ours"]) == (2, 1, 0)
    assert (other["ratio"], other["ratio_low"], other["ratio_high"]) == (2, 1, 3)
    assert other["auc_minus_ours"] == pytest.approx(-0.1) and other["wall_epoch"] == 8
