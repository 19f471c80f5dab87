"""Two processes fine-tune as one does: gradients, BatchNorm, a kill, and the command."""

import json
import os
import subprocess
import sys
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medtl_utils import processes, training
from medtl_utils.data import DataError
from tests.conftest import ROOT, THREADS, make_split, own_folders
from tests.unit.test_training import fresh, same

TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def started_twice(folder: Path, *arguments: str, fails: bool = False) -> str:
    """The output of a command in two processes, each with one thread; `fails`: it must not end."""
    here = own_folders(folder) | {"PYTHONPATH": str(ROOT), "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    done = subprocess.run(
        [*TOGETHER, *arguments],
        cwd=ROOT,
        env={**os.environ, **THREADS, **here},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    """What each of two processes found; the second one was killed on the way."""
    folder = tmp_path_factory.mktemp("two")
    command = ["-m", "tests.two_processes", str(folder)]
    started_twice(folder, *command, fails=True)
    assert (folder / "killed").exists()
    started_twice(folder, *command)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_the_gradients_of_two_processes_are_those_of_one(two):
    """Relative, norm over norm, the worst of three steps; with planted mistakes beside it."""
    for found in (both["gradients"] for both in two):
        assert found["frozen"] < 1e-6
        assert found["mean_of_means"] > 1e-2
    # in the planted run the first process augments as the only one does, the second otherwise
    assert two[0]["gradients"]["own_augmentation"] > 1e-2


def test_batchnorm_sees_its_part_alone_unless_it_is_synchronised(two):
    for found in (both["gradients"] for both in two):
        assert found["train"] > 1e-2 and found["synchronised"] < 1e-6


def test_pytorchs_syncbatchnorm_is_for_graphics_cards(two):
    """Why it is computed by hand here; once it computes on the CPU, it can stand in its place."""
    assert "GPU" in two[0]["SyncBatchNorm"]


def test_after_a_killed_process_the_same_command_goes_on_bit_for_bit(two):
    ends = [both[run] for both in two for run in ("killed", "whole")]
    assert len({end["weights"] for end in ends}) == 1
    assert all(end["history"] == ends[0]["history"] for end in ends)
    # of twelve steps the first six were done before
    assert [end["steps"] for end in ends] == [6, 12, 6, 12]
    # the second process writes nothing, and reads nothing from its own disk
    assert two[0]["killed"]["files"] == ["run.safetensors"] and two[1]["killed"]["files"] == []


def test_what_two_processes_refuse(two):
    for both in two:
        assert "batch_size 3 gives less than two images to each of 2" in both["small batch"]
        assert "Process 1 was not given what process 0 has" in both["other seed"]
        assert "differs in: seed" in both["other seed"]


# ---- one process ---------------------------------------------------------------------------------


def test_one_process_is_the_plain_loop(tiny_task, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    models, histories = [fresh(), fresh()], []
    for model, function in zip(models, (training.fine_tune, processes.fine_tune)):
        histories.append(function(model, tiny_task, epochs=2, batch_size=8, progress=False))
    assert same(*models) and histories[0] == histories[1]
    assert processes.is_first() and processes.from_first("a") == "a"
    processes.disconnect()


def test_both_functions_take_the_same_arguments():
    both = (training.fine_tune, processes.fine_tune)
    kept = [[(p.name, p.default, p.kind) for p in signature(f).parameters.values()] for f in both]
    assert kept[0] == kept[1]


class Alone:
    """Accelerate's state of a single process."""

    process_index, num_processes, is_main_process, device = 0, 1, True, torch.device("cpu")


def one_of_one(model, task, monkeypatch, **more):
    """The loop of several processes, with one."""
    monkeypatch.setattr(processes, "_connected", Alone)
    given = {"epochs": 3, "lr": 1e-3, "batch_size": 10, "seed": 0} | more
    used = (training.augment, None, None)
    return processes._SharedRun(model, task, *given.values(), *used).train(None, False)


def test_the_shared_loop_with_one_process_has_the_same_bits(tiny_task, monkeypatch):
    """The loop stands twice, once for each case; this holds the two equal."""
    models = [fresh(), fresh(), fresh()]
    plain = training.fine_tune(models[0], tiny_task, 3, 1e-3, 10, 0, progress=False)
    assert one_of_one(models[1], tiny_task, monkeypatch) == plain and same(*models[:2])
    # planted: another seed of an epoch
    monkeypatch.setattr(torch, "manual_seed", lambda seed, real=torch.manual_seed: real(seed + 1))
    assert one_of_one(models[2], tiny_task, monkeypatch) != plain and not same(models[0], models[2])


def covers_once(parts_of) -> bool:
    for n in range(1, 40):
        for world in range(1, 9):
            parts = [np.arange(n)[part] for part in parts_of(n, world)]
            if n >= 2 * world:
                sizes = [len(part) for part in parts]
                if [*np.concatenate(parts)] != [*range(n)] or max(sizes) - min(sizes) > 1:
                    return False
            elif any(len(part) != n for part in parts):
                return False
    return True


def test_parts_cover_a_batch_once():
    assert covers_once(processes.parts_of)
    equal = lambda n, world: [slice(k * (n // world), (k + 1) * (n // world)) for k in range(world)]
    assert not covers_once(equal)  # planted: the remainder is lost


def test_dropout_is_drawn_apart_and_the_next_batch_is_not(monkeypatch):
    network = torch.nn.Sequential(torch.nn.Dropout(0.5))
    network.normalisation = None
    drawn = []
    for rank in (0, 1):
        together = processes._Together(network, rank, 2)
        monkeypatch.setattr(together, "joined", lambda own, sizes: own)
        torch.manual_seed(3)
        drawn.append((together(torch.ones(8, 50)), torch.rand(2)))
    assert not torch.equal(drawn[0][0], drawn[1][0]) and torch.equal(drawn[0][1], drawn[1][1])


def test_without_accelerate_it_says_what_to_install(tiny_task, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(DataError, match=r"pip install -e .*machines"):
        processes.fine_tune(fresh(), tiny_task, batch_size=8, progress=False)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_in_two_processes_writes_once_and_as_one(tmp_path):
    """`torchrun --nproc-per-node 2` in place of `python`; BatchNorm differs, so bits may, too."""
    from tests.unit.test_run import FAST, folder

    images, out = folder(tmp_path / "mine"), tmp_path / "results"
    command = ["-m", "medtl_utils.run", str(images), "--out", str(out), *FAST]
    said = started_twice(tmp_path, *command)
    assert said.count("Done. Open") == 1 and said.count("all layers, fold 1 of") == 1
    assert (out / "report.html").is_file() and (out / "scores.csv").is_file()
    assert not [p for p in out.rglob("*") if p.suffix == ".part"]
    again = started_twice(tmp_path, *command)  # what is kept is found by both
    assert again.count("Done. Open") == 1


# ---- a graphics card -----------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: not run here")
def test_a_graphics_card_trains_and_resumes(tmp_path):
    """Nothing is faked: without a card it is told, by -rs, that this was not run."""
    task = SimpleNamespace(train=make_split("train"), val=make_split("val", 12, seed=1))
    arguments = {"batch_size": 8, "progress": False, "epochs": 4}
    model, again = fresh(), fresh()
    path = tmp_path / "run.safetensors"
    history = training.fine_tune(model, task, checkpoint=path, **arguments)
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert training.fine_tune(again, task, checkpoint=path, **arguments) == history
    assert same(model, again)
    cpu, card = training.predict(model, task.val), training.predict(model.cuda(), task.val)
    assert torch.allclose(cpu, card, atol=1e-2)
