"""Notebook 07: Grad-CAM against captum, maps with known answers, the randomisation check."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medtl_utils import replace_head, source_model
from medtl_utils.phantom import simulate_target
from tests.chapters.notebook_code import function, namespace


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """The source with a random head: enough for gradients of both signs."""
    torch.manual_seed(0)
    return replace_head(source_model("ultrasound"), 2).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return simulate_target("test", 4, seed=7079)["images"]


# ---- Grad-CAM equals captum's -------------------------------------------------------------------


def captums(model, images, target: int, layer: str) -> torch.Tensor:
    """captum's map of the gap between two logits, enlarged to the images' size."""
    from captum import attr as captum

    def gap(x):
        logits = model(x)
        return logits[:, target] - logits[:, 1 - target]

    explain = captum.LayerGradCam(gap, getattr(model, layer))
    maps = explain.attribute(model.normalisation(images), relu_attributions=True)
    maps = captum.LayerAttribution.interpolate(maps, images.shape[2:], "bilinear")
    return maps.detach()[:, 0]


def equals_captum(grad_cam, model, images, layer="layer2") -> bool:
    """For both classes, relative to the highest value of a map."""
    for target in (0, 1):
        theirs = captums(model, images, target, layer)
        ours = grad_cam(model, images, target, layer=layer)
        if ours.shape != theirs.shape or (ours - theirs).abs().max() >= 1e-5 * theirs.max():
            return False
    return True


@pytest.mark.parametrize("layer", ["layer2", "layer3", "layer4"])
def test_grad_cam_equals_captum(model, images, layer):
    assert equals_captum(function("07", "grad_cam"), model, images, layer)


GAP = "z[:, target] - z[:, 1 - target]"
WRONG_MAPS = {
    "gradients summed": ("gradient.mean(", "gradient.sum("),
    "no ReLU": (".relu()", ""),
    "wrong layer": ("getattr(model, layer)", "getattr(model, 'layer1')"),
    "one logit only": (GAP, "z[:, target]"),
    "wrong class": (GAP, "z[:, 1 - target] - z[:, target]"),
    "sign lost": ("gradient.mean(", "gradient.abs().mean("),
    "training mode": ("model.eval()", "model.train()"),
}


@pytest.mark.parametrize("mistake", WRONG_MAPS)
def test_the_captum_test_bites(model, images, mistake):
    planted = function("07", "grad_cam", WRONG_MAPS[mistake])
    assert not equals_captum(planted, copy.deepcopy(model), images)


def copies_agree(short, model, images) -> bool:
    long = function("07", "grad_cam")
    return torch.equal(short(model, images, 1, "layer3"), long(model, images, 1, "layer3"))


def test_the_copy_cells_function_is_the_same(model, images):
    """The copy cell repeats grad_cam in fewer lines."""
    assert copies_agree(function("07", "grad_cam", copy=True), model, images)
    no_relu = function("07", "grad_cam", (".relu()", ""), copy=True)
    assert not copies_agree(no_relu, model, images)


# ---- maps with known answers --------------------------------------------------------------------


def answers_are_known(pointing, energy) -> bool:
    """Four maps of 4 x 4; the lesion is the left half: peak inside, peak outside, flat, empty."""
    M = torch.zeros(4, 4, 4, dtype=torch.bool)
    M[:, :, :2] = True
    L = torch.zeros(4, 4, 4)
    L[0, 1, 1], L[0, 2, 3] = 3.0, 1.0  # three quarters inside
    L[1, 0, 0], L[1, 3, 2] = 1.0, 4.0  # one fifth inside
    L[2] = 0.5  # half; the first place, inside, counts as the peak
    hits, shares = pointing(L, M), energy(L, M)
    return np.allclose(hits, [1, 0, 1, 0]) and np.allclose(shares, [0.75, 0.2, 0.5, 0.0])


def test_pointing_game_and_energy_on_known_maps():
    assert answers_are_known(function("07", "pointing"), function("07", "energy"))


@pytest.mark.parametrize(
    "mistake",
    [("argmax", "argmin"), (" & (L.amax(dim=(1, 2)) > 0)", "")],
    ids=["lowest point", "an empty map hits"],
)
def test_the_known_maps_bite_on_pointing(mistake):
    assert not answers_are_known(function("07", "pointing", mistake), function("07", "energy"))


@pytest.mark.parametrize(
    "mistakes",
    [
        [("(L * M).sum(dim=(1, 2))", "M.sum(dim=(1, 2))")],
        [
            ("(L * M).sum(dim=(1, 2))", "(L * M).amax(dim=(1, 2))"),
            ("L.sum(dim=(1, 2))", "L.amax(dim=(1, 2))"),
        ],
    ],
    ids=["mask area", "highest values"],
)
def test_the_known_maps_bite_on_energy(mistakes):
    planted = function("07", "energy", *mistakes)
    assert not answers_are_known(function("07", "pointing"), planted)


def interval_is_by_patient(with_interval) -> bool:
    """Images of one patient agree: the interval is that of as many images as patients."""
    rng = np.random.default_rng(1)
    per_patient = rng.random(60)
    patients, values = np.repeat(np.arange(60), 4), np.repeat(per_patient, 4)
    mean, low, high = with_interval(values, patients)
    loop = [per_patient[rng.integers(60, size=60)].mean() for _ in range(2000)]
    same = np.allclose([low, high], np.quantile(loop, [0.025, 0.975]), atol=0.012)
    return bool(same and np.isclose(mean, per_patient.mean()))


def test_intervals_draw_whole_patients():
    assert interval_is_by_patient(function("07", "with_interval"))


@pytest.mark.parametrize(
    "mistake",
    [("if patients is None", "if True"), ("[0.025, 0.975]", "[0.16, 0.84]")],
    ids=["images drawn one by one", "a 68 % interval"],
)
def test_the_interval_test_bites(mistake):
    assert not interval_is_by_patient(function("07", "with_interval", mistake))


# ---- the randomisation check --------------------------------------------------------------------


def depends_on_the_weights(explain, model, images) -> bool:
    """Does the map of an all-random network lose its resemblance to the original?"""
    notebook = namespace("07")
    torch.manual_seed(0)
    broken = notebook["randomise"](model, len(notebook["DOWN"]))
    maps = explain(model, images, 1), explain(broken, images, 1)
    return bool(notebook["resemblance"](*maps).mean() < 0.7)


def test_the_explanations_pass_the_randomisation_check(model, images):
    assert depends_on_the_weights(function("07", "grad_cam"), model, images)
    assert depends_on_the_weights(function("07", "input_gradient"), model, images)


def test_the_randomisation_check_bites(model, images):
    """An edge detector, and the picture itself, do not change with the weights."""
    assert not depends_on_the_weights(function("07", "edges"), model, images)
    assert not depends_on_the_weights(lambda m, x, target: x[:, 0].float(), model, images)


def randomises_from_the_head(randomise, model) -> bool:
    before = {name: p.clone() for name, p in model.named_parameters()}
    broken = dict(randomise(model, 2).named_parameters())
    new = {n.split(".")[0] for n, p in before.items() if not torch.equal(p, broken[n])}
    spared = all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    return new == {"fc", "layer4"} and spared


def test_randomise_starts_at_the_head_and_spares_the_original(model):
    assert randomises_from_the_head(function("07", "randomise"), model)


@pytest.mark.parametrize(
    "mistake",
    [("DOWN[:n_blocks]", "DOWN[n_blocks:]"), ("copy.deepcopy(model)", "model")],
    ids=["from the pixels", "in place"],
)
def test_the_randomise_test_bites(model, mistake):
    planted = function("07", "randomise", mistake)
    assert not randomises_from_the_head(planted, copy.deepcopy(model))
