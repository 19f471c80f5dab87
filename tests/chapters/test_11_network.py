"""Notebook 11: its network, losses and batches are those of the study."""

import copy

import numpy as np
import pytest
import torch

from medtl_utils import source_model
from studies import two_heads
from tests.chapters.notebook_code import function, namespace
from tests.chapters.test_11_multi_task import masks

N = namespace("11")


# ---- the network ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source():
    return source_model("ultrasound").eval()


def images(n: int = 3) -> torch.Tensor:
    return torch.randint(0, 255, (n, 1, 64, 64), generator=torch.Generator().manual_seed(1)).byte()


def same_network(space: dict, source) -> bool:
    """The notebook's network and maps are the study's."""
    theirs, ours = two_heads.Heads(source), space["TwoHeads"](source)
    shared = {k: v for k, v in theirs.state_dict().items() if not k.startswith("descriptors")}
    ours.load_state_dict(shared)
    maps, wanted = space["frozen_maps"](source, images()), two_heads.frozen_maps(images(), source)
    return all(
        torch.allclose(
            ours.logits(t, maps, (64, 64)), theirs.logits(t, wanted, (64, 64)), atol=1e-5
        )
        for t in ("label", "mask")
    )


def test_notebook_and_study_have_one_network(source):
    assert same_network(N, source)
    for change in (
        ("self.side[k](maps[k]) + x", "self.side[k](maps[k])"),
        ("F.relu(x)", "x"),
        ("maps[-1].mean((2, 3))", "maps[-1].amax((2, 3))"),
    ):
        assert not same_network(namespace("11", change, within="TwoHeads"), source)


def trunk_is_the_sources(space: dict, source) -> bool:
    """Frozen maps and layer3 together are the source's own maps; its own weights stay."""
    net, before = space["TwoHeads"](source), copy.deepcopy(source.layer3.state_dict())
    maps = space["frozen_maps"](source, images())
    s = source
    x = s.maxpool(s.relu(s.bn1(s.conv1(s.normalisation(images())))))
    wanted = s.layer3(s.layer2(s.layer1(x)))
    net.train()
    found = net.shared(maps[-1])
    with torch.no_grad():
        for p in net.shared.parameters():
            p.zero_()
    kept = all(torch.equal(v, before[k]) for k, v in source.layer3.state_dict().items())
    return kept and torch.allclose(found, wanted, atol=1e-4)


def test_the_trunk_begins_as_the_source(source):
    assert trunk_is_the_sources(N, source)
    own = copy.deepcopy(source)
    shared = ("copy.deepcopy(source.layer3)", "source.layer3")
    assert not trunk_is_the_sources(namespace("11", shared, within="TwoHeads"), own)
    moving = ("set_batchnorm(self.shared, 'eval')", "set_batchnorm(self.shared, 'train')")
    assert not trunk_is_the_sources(namespace("11", moving, within="TwoHeads"), source)


def soft_dice_is_hard(mask_loss) -> bool:
    """With sure logits the loss is 1 - Dice of the whole batch, up to the 1 in both terms."""
    a, b = masks(4)
    logits = torch.where(a, 30.0, -30.0)
    both, sizes = int((a & b).sum()), int(a.sum() + b.sum())
    wrong = 30 * float((a != b).float().mean())
    wanted = wrong + 1 - (2 * both + 1) / (sizes + 1)
    return abs(float(mask_loss(logits, b)) - wanted) < 1e-3


def test_the_mask_loss():
    assert soft_dice_is_hard(N["mask_loss"]) and soft_dice_is_hard(two_heads.mask_loss)
    for change in (("2 * (p * y)", "(p * y)"), ("+ 1 - soft_dice", "+ soft_dice")):
        assert not soft_dice_is_hard(function("11", "mask_loss", change))


def passes_are_even(batches) -> bool:
    """25 rows in 48 batches of 12: each row as often as any other, give or take one."""
    rows = np.arange(100, 125)
    dealt = torch.cat(batches(rows, 0)).numpy()
    counts = np.bincount(dealt - 100, minlength=25)
    return len(dealt) == 48 * 12 and counts.max() - counts.min() <= 1


def test_batches_are_even_in_notebook_and_study():
    assert passes_are_even(N["batches"])
    assert passes_are_even(lambda rows, seed: two_heads.batches(torch.from_numpy(rows), seed))
    again = ("rng.permutation(rows)", "rng.choice(rows, len(rows))")
    assert not passes_are_even(function("11", "batches", again))
    assert (two_heads.UPDATES, two_heads.BATCH) == (N["UPDATES"], N["BATCH"])
