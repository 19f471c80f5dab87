"""Notebook 16b: parts of a batch add up, a step's time, cells that are made once, the dial."""

import html
import json
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medtl_utils import widgets
from medtl_utils.widgets import chapter_16b
from tests.chapters.notebook_code import function, namespace, prose
from tests.conftest import picture

N = namespace("16b")


class Tiny(nn.Module):
    """Images (N, 1, 8, 8) -> two logits, in float64, without BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 3, 3), nn.Linear(3, 2)
        self.double()

    def normalisation(self, images):
        return images / 255

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


def batch(m=15):
    torch.manual_seed(1)
    return torch.randint(0, 255, (m, 1, 8, 8)), torch.arange(m) % 2


def parts_add_up(space: dict, world: int = 2) -> bool:
    """The sum over all ranks, which the network would exchange, is the gradient of one process."""
    torch.manual_seed(0)
    model, (images, labels) = Tiny(), batch()
    total = 0
    for rank in range(world):
        space["dist"] = SimpleNamespace(
            get_rank=lambda rank=rank: rank, get_world_size=lambda: world, all_reduce=lambda x: None
        )
        total = total + space["together"](model, images, labels)
    alone = space["gradient"](model, images, labels)
    return bool((total - alone).norm() < 1e-12 * alone.norm())


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_parts_of_a_batch_add_up(world):
    assert parts_add_up(namespace("16b"), world)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(part.stop - part.start) / m if weigh", "1 / world if weigh"),
        ("m * (rank + 1) // world", "m * (rank + 1) // world - 1"),
        ("weight * F.cross_entropy", "F.cross_entropy"),
        ("model.zero_grad()", "None"),
    ],
)
def test_the_test_of_the_parts_bites(right, wrong):
    assert not parts_add_up(namespace("16b", (right, wrong)))


def normalises_as_torch(normalise_together) -> bool:
    """With one process the sums are its own: then it is nn.BatchNorm2d in training."""
    torch.manual_seed(0)
    layer, x = nn.BatchNorm2d(3).double(), torch.randn(4, 3, 5, 5, dtype=torch.float64)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return torch.allclose(normalise_together(layer, x), layer(x), atol=1e-12)


def test_the_synchronised_layer_is_pytorchs_for_one_process():
    alone = SimpleNamespace(all_reduce=lambda x: None)
    for change, right in (
        ((), True),
        ((("/ n + layer.eps", "/ n"),), False),
        ((("* layer.weight[:, None, None]", "* 1"),), False),
    ):
        space = namespace("16b", *change)
        space["dist"] = alone
        assert normalises_as_torch(space["normalise_together"]) is right


def sums_value_and_gradient(change=()) -> bool:
    """Two processes that hold the same: the sum is twice the value, and so is the gradient."""
    space = namespace("16b", *change)
    space["dist"] = SimpleNamespace(all_reduce=lambda x: x.mul_(2))
    x = torch.tensor([1.0, -3.0], requires_grad=True)
    total = space["summed"](x)
    (total * torch.tensor([1.0, 5.0])).sum().backward()
    return total.tolist() == [2.0, -6.0] and x.grad.tolist() == [2.0, 10.0]


def test_a_sum_over_processes_sums_its_gradient():
    assert sums_value_and_gradient()
    assert not sums_value_and_gradient([("total.register_hook(over_all)", "None")])
    assert not sums_value_and_gradient([("over_all(x) - x.detach()", "0 * x")])


# ---- the time of a step --------------------------------------------------------------------------


def step_is_the_dials(step_time) -> bool:
    """At the dial's assumptions, for every setting that both know."""
    return all(
        abs(
            step_time(p, batch, size, gigabits, ms=size / 45)
            - chapter_16b._step(p, batch, size, gigabits)
        )
        < 1e-12
        for p in chapter_16b.WORKERS
        for batch in chapter_16b.BATCHES
        for size in chapter_16b.SIZES
        for gigabits in chapter_16b.BANDWIDTHS
    )


def test_the_step_time_is_the_dials():
    assert step_is_the_dials(N["step_time"])
    for change in (
        ("2 * (p - 1) / p", "(p - 1) / p"),
        ("125 * gigabits", "1000 * gigabits"),
        ("batch / p", "batch"),
        ("2 * (p - 1) * message", "(p - 1) * message"),
    ):
        assert not step_is_the_dials(function("16b", "step_time", change))


def told(box) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))


def dial_is_right() -> bool:
    """Speed-up and efficiency that the caption tells, by a sum over a ring's single messages."""
    box = widgets.scaling_dial()
    controls, places = box.children[:4], ((0, 0, 0, 0), (6, 4, 3, 2), (2, 1, 0, 1))
    for setting in places:
        for control, place in zip(controls, setting):
            control.value = place
        p, n, size, gigabits = (control.chosen for control in controls)
        chunk = size * 8e6 / p / (gigabits * 1e9)  # seconds for one p-th of the gradients
        ring = sum(chunk + 20e-6 for _ in range(2 * (p - 1)))
        image = 1e-3 * size / 45
        step = image * n / p + 2e-3 + ring
        gain = (image * n + 2e-3) / step
        if f"Speed-up {gain:.2f}, efficiency {100 * gain / p:.0f} %" not in told(box):
            return False
    return True


def test_the_dial_tells_the_time_of_a_ring(shown, monkeypatch):
    assert dial_is_right()
    monkeypatch.setattr(chapter_16b, "LATENCY", 2e-4)  # planted: slower messages
    assert not dial_is_right()


# ---- cells ---------------------------------------------------------------------------------------


def made_once(keep, folder) -> bool:
    folder.mkdir()
    made = []
    make = lambda cell: made.append(cell) or [cell, 0.5]
    values = [keep(folder, cell, make) for cell in (1, 2, 1, 2)]
    left = sorted(path.name for path in folder.iterdir())
    return made == [1, 2] and values == 2 * [[1, 0.5], [2, 0.5]] and left == ["1.json", "2.json"]


def test_a_cell_is_made_once(tmp_path):
    assert made_once(N["keep"], tmp_path / "right")
    always = function("16b", "keep", ("if not file.is_file()", "if True"))
    assert not made_once(always, tmp_path / "always")
    beside = function(
        "16b", "keep", ("os.replace(part, file)", "file.write_text(part.read_text())")
    )
    assert not made_once(beside, tmp_path / "beside")


def test_a_cell_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError):
        N["keep"](tmp_path, 3, lambda cell: 1 / 0)
    assert not list(tmp_path.glob("*.json"))
    assert json.loads(json.dumps(N["keep"](tmp_path, 3, lambda cell: 7))) == 7


# ---- what the prose says -------------------------------------------------------------------------


def prose_says_the_curve(step_time) -> bool:
    gain = lambda p, gigabits: step_time(1, 256) / step_time(p, 256, gigabits=gigabits)
    slow = all(gain(p, 1) < 1 for p in range(2, 65))
    flat = 2.5 < gain(16, 10) < gain(64, 10) < 3.5
    return slow and flat and gain(64, 100) > gain(8, 100) > 2 * gain(8, 10)


def test_the_prose_says_what_the_curve_shows():
    assert "with 1 Gbit/s two workers were slower than one" in prose("16b")
    assert prose_says_the_curve(N["step_time"])
    assert not prose_says_the_curve(function("16b", "step_time", ("125 *", "1000 *")))
