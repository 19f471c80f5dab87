"""Notebook 02: the size of a lesion, and two heads on one trunk."""

import copy
import math

import pytest
import torch
from torch import nn

import medtl_utils as mt
from medtl_utils.data import Split
from tests.chapters.notebook_code import function


def discs() -> Split:
    """Masks of 200×200: discs of radius 30 and 60 pixels, and none."""
    y, x = torch.meshgrid(*2 * [torch.arange(200) - 99.5], indexing="ij")
    masks = torch.stack([x**2 + y**2 < radius**2 for radius in (30, 60, 0)])
    images = torch.zeros(3, 1, 200, 200, dtype=torch.uint8)
    return Split("discs", images, torch.zeros(3, dtype=torch.int64), ("no", "yes"), masks=masks)


def size_is_the_diameter(size_of) -> bool:
    """In per cent of the width; nan where there is no lesion."""
    small, large, none = size_of(discs()).tolist()
    return abs(small - 30) < 0.3 and abs(large - 60) < 0.3 and math.isnan(none)


def test_the_size_is_the_diameter():
    assert size_is_the_diameter(function("02", "size_of"))


@pytest.mark.parametrize(
    "mistake",
    [("4 / torch.pi", "2 / torch.pi"), (".sqrt()", ""), ("torch.nan", "0.0")],
    ids=["another factor", "an area", "0 without a lesion"],
)
def test_the_size_test_bites(mistake):
    assert not size_is_the_diameter(function("02", "size_of", mistake))


def heads_are_their_own_models(two_heads, model) -> bool:
    """One trunk with two heads answers as two models do, and runs its trunk once."""
    torch.manual_seed(4)
    alone = [mt.replace_head(copy.deepcopy(model), n).eval() for n in (2, 1)]
    trunk, runs = copy.deepcopy(model).eval(), []
    trunk.fc = nn.Identity()
    trunk.register_forward_hook(lambda *_: runs.append(1))
    both = two_heads(trunk, *(one.fc for one in alone)).eval()
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        pairs = zip(both(x), (one(x) for one in alone))
        same = all(torch.allclose(got, want, atol=1e-5) for got, want in pairs)
    return same and len(runs) == 1


def test_two_heads_on_one_trunk(varied_resnet):
    assert heads_are_their_own_models(function("02", "TwoHeads"), varied_resnet)


@pytest.mark.parametrize(
    "mistake",
    [
        ("(self.classify(f), self.measure(f))", "(self.measure(f), self.classify(f))"),
        ("self.measure(f)", "self.measure(self.trunk(x))"),
    ],
    ids=["heads swapped", "the trunk runs twice"],
)
def test_the_two_heads_test_bites(mistake, varied_resnet):
    assert not heads_are_their_own_models(function("02", "TwoHeads", mistake), varied_resnet)
