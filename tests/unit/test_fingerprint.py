"""`describe`: the same text for the same data, code and weights, another one for another."""

import functools
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from medtl_utils.augmentation import augment
from medtl_utils.fingerprint import describe
from tests.conftest import ROOT


class Focal(nn.Module):
    def __init__(self, gamma):
        super().__init__()
        self.gamma = gamma

    def forward(self, outputs, labels):
        return (outputs * self.gamma).mean()


class OtherFocal(Focal):
    def forward(self, outputs, labels):
        return (outputs**self.gamma).mean()


OtherFocal.__qualname__ = "Focal"


def weighted(weight):
    return lambda outputs, labels: F.cross_entropy(outputs, labels, weight)


def scaled(factor=1.0, notes=None):
    def loss(outputs, labels):
        if notes is not None:
            notes.append(1)
        return factor * outputs.mean()

    return loss


PAIRS = {
    "another constant": lambda: (lambda z, y: 2 * z.mean(), lambda z, y: 3 * z.mean()),
    "another call": lambda: (lambda z, y: z.mean(), lambda z, y: z.sum()),
    "a closure's tensor": lambda: (weighted(torch.ones(2)), weighted(torch.tensor([1.0, 2.0]))),
    "a closure's number": lambda: (scaled(1.0), scaled(2.0)),
    "a partial's argument": lambda: tuple(
        functools.partial(F.cross_entropy, label_smoothing=s) for s in (0.0, 0.1)
    ),
    "an attribute": lambda: (Focal(1.0), Focal(2.0)),
    "an attribute that repr hides": lambda: tuple(
        nn.CrossEntropyLoss(label_smoothing=s) for s in (0.0, 0.1)
    ),
    "a buffer": lambda: tuple(nn.BCEWithLogitsLoss(pos_weight=torch.tensor(w)) for w in (1.0, 2.0)),
    "the class's code": lambda: (Focal(1.0), OtherFocal(1.0)),
    "a library's function": lambda: (F.cross_entropy, F.nll_loss),
    "a bound method": lambda: (Focal(1.0).forward, Focal(2.0).forward),
    "a default": lambda: (lambda z, y, a=1: a * z.mean(), lambda z, y, a=2: a * z.mean()),
    "the dtype": lambda: (torch.zeros(4, dtype=torch.uint8), torch.zeros(1, dtype=torch.int32)),
    "the shape": lambda: (torch.zeros(2, 3), torch.zeros(3, 2)),
}


@pytest.mark.parametrize("what", PAIRS)
def test_describe_tells_them_apart(what):
    (one, other), (again, _) = PAIRS[what](), PAIRS[what]()
    assert describe(one) != describe(other)
    assert describe(one) == describe(again)


def test_describing_by_name_alone_would_not():
    """The planted mistake that the test above must catch."""
    pairs = [PAIRS[k]() for k in ("a closure's tensor", "a closure's number", "the class's code")]
    for one, other in pairs:
        names = [getattr(x, "__qualname__", type(x).__qualname__) for x in (one, other)]
        assert names[0] == names[1]


def several():
    """Values whose texts could hold an address, or the order of a set."""
    things = (augment, Focal(2.0), scaled(2.0), v2.RandomErasing(), torch.arange(9))
    sets = ({"a", "b", "c", "d"}, lambda x: x in {"p", "q", "r"})
    return [describe(thing) for thing in (*things, *sets)]


def test_describe_is_the_same_in_another_process():
    code = f"from {__name__} import several; print(several())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(several()), done.stderr
    assert " at 0x" not in done.stdout


def test_describe_ends_on_circles_and_ignores_notes():
    circle = SimpleNamespace(name="a")
    circle.itself = circle
    assert describe(circle) == describe(circle)
    assert describe(scaled(1.0, notes=[])) == describe(scaled(1.0, notes=[1, 2]))
    assert describe(torch.zeros(())) and describe(torch.zeros(2, dtype=torch.bfloat16))
