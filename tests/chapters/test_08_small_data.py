"""Notebook 08: augmentations by their physics, MixUp, FedAvg against central training, draws."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

import medtl_utils as mt
from medtl_utils import freeze, replace_head, source_model
from medtl_utils.data import Task
from medtl_utils.exercises.chapter_08 import worth
from studies import small_data
from tests.chapters.notebook_code import _cells, function, namespace, plant
from tests.conftest import make_split

N = namespace("08")


# ---- augmentations -------------------------------------------------------------------------------


def spots(*places) -> torch.Tensor:
    """An image (1, 1, 64, 64) that is dark but for bright spots at (row, column)."""
    x = torch.zeros(1, 1, 64, 64)
    for row, column in places:
        x[0, 0, row, column] = 200.0
    return x


def centre(x: torch.Tensor) -> tuple[float, float]:
    """Row and column of the middle of all light, in pixels from the upper left corner."""
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    light = x[0, 0] / x.sum()
    return float((rows * light).sum()), float((columns * light).sum())


def warps_as_told(warp) -> bool:
    """A shift moves to the right alone; a zoom leaves the skin's middle where it is."""
    near = lambda got, want: np.allclose(got, want, atol=0.05)
    moved = centre(warp(spots((20, 30)), torch.tensor([0.125])))
    larger = centre(warp(spots((20, 40)), zoom=torch.tensor([1.25])))
    same = warp(spots((20, 40), (3, 3)))
    return (
        near(moved, (20.5, 38.5))
        and near(larger, (1.25 * 20.5, 32 + 1.25 * (40.5 - 32)))
        and torch.allclose(same, spots((20, 40), (3, 3)), atol=1e-3)
    )


def test_shift_and_scale_are_those_of_a_probe():
    assert warps_as_told(N["warp"]) and warps_as_told(small_data.warp)


@pytest.mark.parametrize(
    "change",
    [
        ("-2 * right", "2 * right"),  # to the left
        ("1 / zoom - 1", "zero"),  # enlarged from the middle: the skin leaves the picture
        ("-2 * right", "-right"),  # half as far
    ],
)
def test_the_warp_test_bites(change):
    assert not warps_as_told(function("08", "warp", change))


def flips_as_told(flip) -> bool:
    """As NumPy's, and only where the strength is above one half."""
    x = torch.arange(2 * 16.0).view(2, 1, 4, 4)
    for axis, numpys in ((3, np.fliplr), (2, np.flipud)):
        got = flip(x, torch.tensor([0.2, 0.8]), axis).numpy()
        if not (np.array_equal(got[0], x[0]) and np.array_equal(got[1, 0], numpys(x[1, 0]))):
            return False
    return True


def test_flips_are_numpys():
    assert flips_as_told(N["flip"])
    both = lambda x, s, axis: (small_data.flip_tb if axis == 2 else small_data.flip_lr)(x, s)
    assert flips_as_told(both)
    assert not flips_as_told(function("08", "flip", ("x.flip(axis)", "x.flip(2)")))
    assert not flips_as_told(function("08", "flip", ("> 0.5", "< 0.5")))


def grain_is_right(speckle) -> bool:
    """Black stays black; the mean stays; the SD is the strength; wider than high."""
    torch.manual_seed(0)
    x = torch.full((8, 1, 64, 64), 100.0)
    x[:, :, :8] = 0
    grain = (speckle(x, torch.full((8,), 0.2)) - x)[:, 0, :, 1:-1]
    below = grain[:, 8:] / 100
    along = float((below[:, :, 1:] * below[:, :, :-1]).mean() / below.var())
    down = float((below[:, 1:] * below[:, :-1]).mean() / below.var())
    return (
        not grain[:, :8].any()
        and abs(float(below.mean())) < 0.01
        and abs(float(below.std()) - 0.2) < 0.01
        and abs(along - 2 / 3) < 0.05
        and abs(down) < 0.05
    )


def test_speckle_is_grain_that_multiplies():
    assert grain_is_right(N["speckle"]) and grain_is_right(small_data.speckle)
    for change in (("(1, 3), 1, (0, 1)", "(3, 1), 1, (1, 0)"), ("3 ** 0.5 *", "1 *")):
        assert not grain_is_right(function("08", "speckle", change))
    assert not grain_is_right(lambda x, s: x + 20 * torch.randn_like(x))  # fluid turns grey


def gain_is_right(gain) -> bool:
    """10 dB are a fifth of 255 levels, whatever the grey; black stays black."""
    got = gain(torch.tensor([0.0, 50, 150]).view(1, 1, 1, 3), torch.tensor([10.0]))
    return np.allclose(got.flatten(), [0, 101, 201])


def test_gain_adds_decibel():
    assert gain_is_right(N["gain"]) and gain_is_right(small_data.gain)
    assert not gain_is_right(function("08", "gain", ("x + 255", "x * 255")))
    assert not gain_is_right(function("08", "gain", (" * (x / 10).clamp(max=1)", " * 1")))


# ---- MixUp ---------------------------------------------------------------------------------------


def mixes_both(mixup) -> bool:
    """Images and labels are mixed in one share and one order: a label can be read off its image."""
    torch.manual_seed(1)
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    soft = F.one_hot(labels, 2).float()
    x = (100.0 * labels).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    shares = set()
    for _ in range(6):
        mixed, found = mixup(x, soft)
        shares |= {round(float(v), 3) for v in found[:, 1]}
        if not torch.allclose(mixed[:, 0, 0, 0] / 100, found[:, 1], atol=1e-5):
            return False
        if not torch.allclose(found.sum(1), torch.ones(8)):
            return False
    return len(shares) > 5


def test_mixup_mixes_images_and_labels_alike():
    assert mixes_both(N["mixup"])
    assert mixes_both(lambda x, soft: small_data.changed(small_data.MIXUP, x, soft))
    for change in (("mix(soft)", "soft"), ("one[other]", "one[torch.randperm(len(one))]")):
        assert not mixes_both(function("08", "mixup", change))


# ---- federated averaging -------------------------------------------------------------------------


def apart(fedavg, batchnorm: str, steps: int = 1) -> float:
    """Largest difference in a weight between FedAvg and gradient descent on all images, by hand."""
    torch.manual_seed(2)
    net = freeze(replace_head(source_model("random"), 2), through=None, batchnorm=batchnorm)
    net = net.double()
    x, y = torch.randn(9, 3, 16, 16).double(), torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 1])
    sites = [(x[k : k + 3], y[k : k + 3]) for k in (0, 3, 6)]
    start = {k: v.clone() for k, v in net.state_dict().items()}
    averaged = fedavg(net, sites, 2, steps, 0.05).state_dict()
    averaged = {k: v.clone() for k, v in averaged.items()}
    net.load_state_dict(start)
    net.train()
    weights = [p for p in net.parameters() if p.requires_grad]
    for _ in range(2 * steps):
        gradients = torch.autograd.grad(F.cross_entropy(net(x), y), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients):
                weight -= 0.05 * gradient
    names = [name for name, _ in net.named_parameters()]
    return max(float((averaged[k] - net.state_dict()[k]).abs().max()) for k in names)


def test_one_local_step_is_one_central_step_with_frozen_batchnorm():
    assert apart(N["fedavg"], "frozen") < 1e-10
    assert apart(N["fedavg"], "train") > 1e-3
    assert apart(N["fedavg"], "frozen", steps=3) > 1e-6


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("fedavg", (".mean(0)", ".sum(0)")),
        ("fedavg", ("in hospitals]", "in hospitals[:2]]")),  # one hospital is forgotten
        ("fedavg", ("range(rounds)", "range(1)")),
        ("local_steps", ("copy.deepcopy(model)", "model")),  # one hospital after the other
        ("local_steps", ("optim.SGD", "optim.AdamW")),
    ],
)
def test_the_federated_test_bites(where, change):
    assert apart(namespace("08", change, within=where)["fedavg"], "frozen") > 1e-6


def weighs_by_size(fedavg) -> bool:
    """Deep dive: with one step and unequal hospitals, a linear layer is that of all images."""
    torch.manual_seed(3)
    x, y = torch.randn(20, 5).double(), torch.randint(0, 2, (20,))
    layer = torch.nn.Linear(5, 2).double()
    weight, bias = (p.detach().clone() for p in layer.parameters())
    sites = [(x[:2], y[:2]), (x[2:7], y[2:7]), (x[7:], y[7:])]
    got = fedavg(layer, sites, 1, 1, 0.3)
    error = torch.softmax(x @ weight.T + bias, 1) - F.one_hot(y, 2)
    want = weight - 0.3 * error.T @ x / 20
    return torch.allclose(got.weight, want, atol=1e-12)


def test_unequal_hospitals_count_by_their_images():
    assert weighs_by_size(namespace("08_deep")["fedavg"])
    planted = ("share /= share.sum()", "share = torch.ones(3).double() / 3")
    assert not weighs_by_size(function("08_deep", "fedavg", planted))
    assert not weighs_by_size(N["fedavg"])


# ---- numbers and draws ---------------------------------------------------------------------------


def is_scipys(interval) -> bool:
    values = np.array([0.02, -0.01, 0.05, 0.04, 0.0])
    ends = stats.ttest_1samp(values, 0).confidence_interval()
    return interval(values) == f"{values.mean():+.3f} ({ends.low:+.3f} to {ends.high:+.3f})"


def test_the_interval_is_scipys():
    assert is_scipys(N["interval"])
    assert not is_scipys(
        function("08", "interval", ("stats.t.ppf(0.975, len(values) - 1)", "1.96"))
    )


def draws_as_told(draw) -> bool:
    y = np.array([1] * 30 + [0] * 70)
    rows = draw(y, 20, np.random.default_rng(0))
    half = draw(y, 20, np.random.default_rng(0), 0.5)
    few = draw(np.array([1] * 3 + [0] * 97), 10, np.random.default_rng(0))
    counts = [(len(set(r)), int(t[r].sum())) for r, t in ((rows, y), (half, y))]
    return counts == [(20, 6), (20, 10)] and (few < 3).sum() == 2


def test_draws_keep_the_classes():
    assert draws_as_told(N["draw"])
    assert not draws_as_told(function("08", "draw", ("max(2, ", "max(0, ")))
    assert not draws_as_told(lambda y, n, rng, share=None: rng.permutation(len(y))[:n])


def variance_fits(n_eff) -> bool:
    """The variance of a mean over images of unequal patients, by simulation."""
    rng, rho, times = np.random.default_rng(0), 0.4, np.array([1, 2, 3, 10])
    who = np.repeat(np.arange(4), times)
    shared, own = rng.standard_normal((20_000, 4)), rng.standard_normal((20_000, 16))
    means = (rho**0.5 * shared[:, who] + (1 - rho) ** 0.5 * own).mean(1)
    return abs(n_eff(who, rho) * means.var() - 1) < 0.05


def test_the_effective_sample_size_is_that_of_the_variance():
    assert variance_fits(worth)
    assert not variance_fits(lambda who, rho: 16 / (1 + (4 - 1) * rho))


# ---- the copy cell -------------------------------------------------------------------------------


def copied(monkeypatch, capsys, *mistake: str) -> str:
    """What the copy cell prints for RGB images of three classes whose colour is their class."""
    (cell,) = [c for c in _cells("08") if "copy" in c.metadata.get("tags", [])]
    parts = [make_split(k, 60, size=32, classes=("a", "b", "c"), positive=None) for k in ("t", "v")]
    rng = torch.Generator().manual_seed(0)
    for split in parts:
        colour = 90 + 20 * torch.randn(60, 3, 1, 1, generator=rng)
        colour[range(60), split.labels] += 30
        pixels = colour + 30 * torch.randn(60, 3, 32, 32, generator=rng)
        split.images = pixels.clamp(0, 255).to(torch.uint8)
    monkeypatch.setattr(mt, "load_task", lambda *a, **k: Task("three", *parts, "a card"))
    exec(plant(cell.source, *mistake) if mistake else cell.source, {})
    return capsys.readouterr().out


def test_the_copy_cell_takes_rgb_and_three_classes(monkeypatch, capsys):
    said = copied(monkeypatch, capsys)
    assert said.startswith("gain in AUC") and "nan" not in said
    turned = copied(monkeypatch, capsys, "images.flip(3)", "images.flip(1)")  # another colour
    assert float(turned.split()[3]) < min(-0.05, float(said.split()[3]))
