"""Chapter 02: the widget that freezes and trains, and the copy cell on RGB and three classes."""

import copy
import html
import re
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import medtl_utils as mt
from medtl_utils import widgets
from medtl_utils.data import Split
from medtl_utils.models import BLOCKS, block_of
from tests.chapters import notebook_code
from tests.conftest import make_split, picture

CHAPTER = "medtl_utils.widgets.chapter_02"


@pytest.fixture(scope="module")
def small():
    """A random network of two classes, and images of two classes that differ in brightness."""
    torch.manual_seed(3)
    return mt.replace_head(mt.source_model("random"), 2), make_split("val", 12)


def said(box) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))


def moved_by_hand(model, split, through: str | None, held: bool) -> tuple[int, int, list, list]:
    """(parameters that learn, statistics that stay, blocks whose weights move, whose means move).

    Frozen by hand: one step of plain gradient descent, which moves whatever learns.
    """
    model, frozen = (
        copy.deepcopy(model).train(),
        BLOCKS[: BLOCKS.index(through) + 1 if through else 0],
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(block_of(name) not in frozen)
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and held and block_of(name) in frozen:
            layer.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    F.cross_entropy(model(model.normalisation(split.images)), split.labels).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    after = model.state_dict()
    apart = [name for name in before if not torch.equal(before[name], after[name])]
    learn = sum(p.numel() for p in model.parameters() if p.requires_grad)
    stay = sum(t.numel() for n, t in before.items() if "running" in n and n not in apart)
    blocks = lambda names: [b for b in (*BLOCKS, "fc") if any(block_of(n) == b for n in names)]
    weights = [name for name, _ in model.named_parameters() if name in apart]
    means = [name for name in apart if name.endswith("running_mean")]
    return learn, stay, blocks(weights), blocks(means)


def widget_says_what_moves(model, split) -> Iterator[bool]:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    box = widgets.freeze_and_train(model, split)
    place, mode = box.children[:2]
    for k, held in ((0, False), (1, True), (3, False), (3, True), (5, False), (5, True)):
        place.value, mode.value = k, int(held)
        through = BLOCKS[k - 1] if k else None
        learn, stay, weights, means = moved_by_hand(model, split, through, held)
        words = said(box)
        yield f"{learn:,} of 11,177,538 parameters learn; {stay:,} of 9,600" in words
        yield f"weights moved in {', '.join(weights)}; " in words
        yield f"running means moved in {', '.join(means) or 'no block'}. " in words
    yield all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_freeze_and_train(shown, small):
    assert all(widget_says_what_moves(*small))


def weights_alone(model, through, statistics):
    """A planted mistake: whatever is asked for, BatchNorm stays in training mode."""
    through = None if through == "nothing" else through
    return mt.freeze(copy.deepcopy(model), through, batchnorm="train")


def the_model_itself(model, through, statistics):
    """A planted mistake: no copy is trained."""
    through = None if through == "nothing" else through
    return mt.freeze(model, through, batchnorm="frozen" if statistics == "held still" else "train")


@pytest.mark.parametrize("mistake", [weights_alone, the_model_itself])
def test_the_widget_test_bites(shown, small, monkeypatch, mistake):
    monkeypatch.setattr(f"{CHAPTER}._frozen", mistake)
    model, split = small
    assert not all(widget_says_what_moves(copy.deepcopy(model), split))


def test_how_far_the_weights_moved(small):
    """In per cent of their length: 5 for weights that are 5 % longer, 0 where no bit moved."""
    model, before = copy.deepcopy(small[0]), small[0].state_dict()
    with torch.no_grad():
        for parameter in model.layer2.parameters():
            parameter.mul_(1.05)
    weights_moved = __import__(CHAPTER, fromlist=["_"])._weights_moved
    moved = weights_moved(model, before)
    assert moved.pop("layer2") == pytest.approx(5, abs=1e-3) and not any(moved.values())


# ---- the copy cell -------------------------------------------------------------------------------


def rgb_of_three_classes() -> SimpleNamespace:
    """48 RGB images of three classes by brightness; some have no lesion."""
    split = make_split("train", 48, classes=("normal", "benign", "malignant"), positive=None)
    masks = torch.zeros(48, 32, 32, dtype=torch.bool)
    for row in range(1, 48):
        masks[row, : 1 + row // 3, :8] = row % 4 > 0
    parts = []
    for name, rows in (("train", slice(0, 32)), ("val", slice(32, 48))):
        images = split.images[rows].repeat(1, 3, 1, 1)
        part = Split(name, images, split.labels[rows], split.classes, masks=masks[rows])
        parts.append(part)
    return SimpleNamespace(train=parts[0], val=parts[1], classes=split.classes, positive=None)


def copied(monkeypatch, right="", wrong="") -> dict:
    """The names that the copy cell leaves on the task above; a mistake is planted if given."""
    (cell,) = [c for c in notebook_code._cells("02") if "copy" in c.metadata.get("tags", [])]
    source = notebook_code.plant(cell.source, right, wrong) if right else cell.source
    task, space = rgb_of_three_classes(), {}
    monkeypatch.setattr(mt, "load_task", lambda *args, **more: task)
    exec(source, space)
    return space


def is_right(space: dict) -> bool:
    """Scores of three classes; sizes in their unit; the error of images with a lesion alone."""
    task = rgb_of_three_classes()
    share = [s.masks.float().mean((1, 2)) for s in (task.train, task.val)]
    size, size_val = (100 * (4 / torch.pi * one).sqrt() for one in share)
    learnt = size[size > 0]
    with torch.no_grad():
        guess = space["measure"](space["f_val"])[:, 0] * learnt.std() + learnt.mean()
    error = (guess - size_val)[size_val > 0].abs().mean()
    same = torch.allclose(guess, space["guess"], atol=1e-3)
    return space["scores"].shape == (16, 3) and same and abs(float(error - space["error"])) < 1e-3


def test_the_copy_cell_takes_rgb_and_three_classes(monkeypatch, capsys):
    assert is_right(copied(monkeypatch))
    said = capsys.readouterr().out
    assert "AUC" in said and "nan" not in said
    assert not is_right(copied(monkeypatch, "* sd + mean", "* sd"))
    assert not is_right(copied(monkeypatch, "y > 0, y_val > 0", "y >= 0, y_val >= 0"))
