"""Kill a training at random moments and go on, until it is done: `python -m tests.kills`.

    python -m tests.kills FOLDER KILLS SEED [planted]

Each training runs in a fork of this process, so that no time goes into imports. Prints one JSON
line: kills, trainings, kills in the middle of a write, trainings that ended bit-equal to one that
nobody killed. `planted`: the checkpoint is written in place.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file, save, save_file
from torch import nn

from medtl_utils import checkpoint
from medtl_utils.models import Normalisation
from medtl_utils.training import fine_tune
from tests.conftest import make_split

EPOCHS = 6


def small(width: int = 64) -> nn.Module:
    """A network with some weights to write, trained in milliseconds."""
    torch.manual_seed(0)
    layers = OrderedDict(
        conv=nn.Conv2d(3, 4, 3, 4),
        bn=nn.BatchNorm2d(4),
        pool=nn.AdaptiveAvgPool2d(2),
        flat=nn.Flatten(),
        wide=nn.Linear(16, 64 * width),
        fc=nn.Linear(64 * width, 2),
    )
    model = nn.Sequential(layers)
    model.normalisation = Normalisation((0.5,) * 3, (0.5,) * 3)
    return model


def train(path: Path) -> None:
    """One training with a checkpoint at `path`; weights and history go beside it at its end."""
    task = SimpleNamespace(train=make_split("train"), val=make_split("val", 12, seed=1))
    model = small()
    history = fine_tune(model, task, epochs=EPOCHS, batch_size=8, progress=False, checkpoint=path)
    done = {"weights": dict(model.state_dict()), "history": history}
    with checkpoint.whole_file(path.with_suffix(".done")) as part:
        save_file(done["weights"], part, {"history": json.dumps(history)})


def forked(function, *arguments) -> int:
    """The process in which `function` runs; it ends with 0, or 1 after an error."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        function(*arguments)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def same(first: Path, second: Path) -> bool:
    """Whether two trainings ended with the same bits: weights and history."""
    a, b = load_file(first), load_file(second)
    heads = [
        path.read_bytes()[8 : 8 + 4000].split(b"history")[1][:2000] for path in (first, second)
    ]
    return (
        a.keys() == b.keys()
        and all(map(torch.equal, a.values(), b.values()))
        and heads[0] == heads[1]
    )


def train_and_die(path: Path, number: int, share: float) -> None:
    """A training that is killed in its `number`-th write, when a share of the bytes is there."""
    writes = iter(range(1, number + 1))

    def write(tensors, file, metadata=None):
        if next(writes) == number:
            content = save(tensors, metadata)
            with open(file, "wb") as out:
                out.write(content[: int(share * len(content))])
            os.kill(os.getpid(), signal.SIGKILL)
        save_file(tensors, file, metadata)

    checkpoint.save_file = write
    train(path)


def main(folder: Path, kills: int, seed: int, planted: bool) -> dict:
    if planted:
        checkpoint.whole_file = contextlib.nullcontext
    reference = folder / "reference.safetensors"
    start = time.perf_counter()
    assert wait(forked(train, reference)) == 0
    whole = time.perf_counter() - start
    rng, told = random.Random(seed), {"kills": 0, "trainings": 0, "in a write": 0, "equal": 0}
    while told["kills"] < kills:
        path = folder / f"{told['trainings']}.safetensors"
        while not path.with_suffix(".done").exists():
            if told["kills"] < kills and told["kills"] % 2:
                child = forked(train_and_die, path, rng.randint(1, 3), rng.random())
            else:
                child = forked(train, path)
                if told["kills"] < kills:
                    time.sleep(rng.uniform(0, whole))
                    os.kill(child, signal.SIGKILL)
            code = wait(child)
            told["kills"] += code == -signal.SIGKILL
            told["in a write"] += any(folder.glob(f"{path.name}.*.part"))
            for part in folder.glob("*.part"):
                part.unlink()
            if code not in (0, -signal.SIGKILL):
                return told | {"error": code}
        told["trainings"] += 1
        told["equal"] += same(path.with_suffix(".done"), reference.with_suffix(".done"))
    return told


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "planted" in sys.argv[4:]
    print(json.dumps(main(*arguments)))
