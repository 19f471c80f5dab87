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
    named = theirs.state_dict().items()
    name = lambda k: k if k.startswith("shared") else f"heads.{k}"
    ours.load_state_dict({name(k): v for k, v in named if not k.startswith("descriptors")})
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
        ("self.heads['side'][k](maps[k]) + x", "self.heads['side'][k](maps[k])"),
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


def soft_dice_is_hard(loss) -> bool:
    """With sure logits the loss is 1 - Dice of the whole batch, up to the 1 in both terms."""
    a, b = masks(4)
    logits = torch.where(a, 30.0, -30.0)
    both, sizes = int((a & b).sum()), int(a.sum() + b.sum())
    wrong = 30 * float((a != b).float().mean())
    wanted = wrong + 1 - (2 * both + 1) / (sizes + 1)
    return abs(float(loss(logits, b)) - wanted) < 1e-3


class Fixed:
    """A network that gives these logits, and a split with these masks."""

    def __init__(self, logits, masks):
        self.z, self.masks, self.images = logits, masks, masks[:, None]

    def logits(self, task, maps, size):
        return self.z


def notebooks_loss(loss_of):
    def loss(logits, masks):
        both = Fixed(logits, masks)
        return loss_of("mask", both, [], both, torch.arange(len(masks)))

    return loss


def test_the_mask_loss():
    assert soft_dice_is_hard(two_heads.mask_loss)
    assert soft_dice_is_hard(notebooks_loss(N["loss_of"]))
    for change in (("2 * (p * y)", "(p * y)"), ("+ 1 - soft_dice", "+ soft_dice")):
        assert not soft_dice_is_hard(notebooks_loss(function("11", "loss_of", change)))


def passes_are_even(batches) -> bool:
    """25 rows in 48 batches of 12: each row as often as any other, give or take one."""
    dealt = torch.cat(batches(torch.arange(25), 0)).numpy()
    counts = np.bincount(dealt, minlength=25)
    return len(dealt) == 48 * 12 and counts.max() - counts.min() <= 1


def test_the_studys_batches_are_even():
    assert passes_are_even(two_heads.batches)
    again = lambda rows, seed: list(torch.randint(25, (48, 12), generator=torch.manual_seed(seed)))
    assert not passes_are_even(again)
    assert two_heads.UPDATES == N["UPDATES"]


def deals_fairly(space: dict) -> bool:
    """The batch of a task is that of its rows and update, whoever learns; no image twice in it."""
    space["SEED"], few, every = 11, np.arange(100, 125), np.arange(300)
    deal = space["deal"]
    first = [deal(few, "label", k) for k in range(9)]
    deal(every, "mask", 0)  # another task in between
    again = [deal(few, "label", k) for k in range(9)]
    same = all(torch.equal(a, b) for a, b in zip(first, again))
    whole = all(len(set(a.tolist())) == two_heads.BATCH and a.min() >= 100 for a in first)
    return same and whole and not torch.equal(first[0], first[1])


def test_the_notebook_deals_the_same_batches_to_all():
    assert deals_fairly(namespace("11"))
    for change in (
        ("[SEED, task == 'mask', update]", "None"),
        ("update]", "0]"),
        ("replace=False", "replace=True"),
    ):
        assert not deals_fairly(namespace("11", change, within="deal"))
