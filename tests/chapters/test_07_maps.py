"""Notebook 07 and its deep dive: Grad-CAM and HiResCAM against captum, maps with known answers,
the randomisation check, the copy cell."""

import ast
import copy
import inspect
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import medtl_utils as mt
from medtl_utils import replace_head, source_model
from medtl_utils.phantom import simulate_target
from tests.chapters import notebook_code
from tests.chapters.notebook_code import function, namespace
from tests.conftest import make_split


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


@pytest.mark.parametrize("layer", ["layer1", "layer2", "layer3", "layer4"])
@pytest.mark.parametrize("number", ["07", "07_deep"])
def test_grad_cam_equals_captum(model, images, number, layer):
    assert equals_captum(function(number, "grad_cam"), model, images, layer)


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


# ---- HiResCAM, in the deep dive ------------------------------------------------------------------


def hires_is_captums(hires_cam, model, images, layer) -> bool:
    """captum's gradient times activation of a layer, summed over its channels, positive part."""
    from captum import attr as captum

    gap = lambda x: model(x).diff(dim=1)[:, 0]  # captum allows one pass of the model alone
    explain = captum.LayerGradientXActivation(gap, getattr(model, layer))
    theirs = explain.attribute(model.normalisation(images)).sum(dim=1, keepdim=True).relu()
    theirs = captum.LayerAttribution.interpolate(theirs, images.shape[2:], "bilinear")[:, 0]
    ours = hires_cam(model, images, 1, layer)
    return bool((ours - theirs.detach()).abs().max() < 1e-5 * theirs.max())


@pytest.mark.parametrize("layer", ["layer1", "layer2"])
def test_hires_cam_equals_captum(model, images, layer):
    assert hires_is_captums(function("07_deep", "hires_cam"), model, images, layer)
    averaged = function("07_deep", "grad_cam")  # planted: the gradient is averaged
    assert not hires_is_captums(averaged, model, images, layer)


def test_hires_cam_is_grad_cam_before_the_average_over_places_alone(model, images):
    grad_cam, hires_cam = (function("07_deep", name) for name in ("grad_cam", "hires_cam"))
    maps = lambda layer: (explain(model, images, 1, layer) for explain in (grad_cam, hires_cam))
    close = lambda a, b: torch.allclose(a, b, atol=1e-5 * float(a.max()))
    assert close(*maps("layer4"))
    assert not close(*maps("layer3"))


# ---- the copy cell, and what the deep dive repeats -----------------------------------------------


def copies_agree(short, model, images) -> bool:
    long = function("07", "grad_cam")
    return torch.equal(short(model, images, 1, "layer3"), long(model, images, 1, "layer3"))


def test_the_copy_cells_function_is_the_same(model, images):
    """The copy cell repeats grad_cam in fewer lines, for any number of classes."""
    assert copies_agree(function("07", "grad_cam", copy=True), model, images)
    no_relu = function("07", "grad_cam", (".relu()", ""), copy=True)
    assert not copies_agree(no_relu, model, images)


def explains_the_log_odds(grad_cam, images) -> bool:
    """Three classes: captum's map of log P / (1 - P) of the last one."""
    from captum import attr as captum

    torch.manual_seed(1)
    model = replace_head(source_model("ultrasound"), 3).eval()

    def log_odds(x):
        p = model(x).softmax(dim=1)[:, 2]
        return p.log() - (1 - p).log()

    explain = captum.LayerGradCam(log_odds, model.layer2)
    theirs = explain.attribute(model.normalisation(images), relu_attributions=True)
    theirs = captum.LayerAttribution.interpolate(theirs, images.shape[2:], "bilinear").detach()[
        :, 0
    ]
    ours = grad_cam(model, images, 2, "layer2")
    return bool((ours - theirs).abs().max() < 1e-4 * theirs.max())


def test_the_copy_cell_explains_three_classes(images):
    assert explains_the_log_odds(function("07", "grad_cam", copy=True), images)
    one_logit = ("z[:, target] - z[:, torch.arange(z.shape[1]) != target].logsumexp(dim=1)",
                 "z[:, target]")  # fmt: skip
    assert not explains_the_log_odds(function("07", "grad_cam", one_logit, copy=True), images)


def test_the_copy_cell_runs_on_rgb_and_three_classes(monkeypatch, capsys):
    classes = ("normal", "benign", "malignant")
    split = make_split("val", 12, classes=classes, positive=None)
    split.images = split.images.expand(-1, 3, -1, -1).contiguous()
    task = SimpleNamespace(train=split, val=split, classes=classes, positive=None)
    monkeypatch.setattr(mt, "load_task", lambda *args, **more: task)
    monkeypatch.setattr(mt, "fine_tune", lambda *args, **more: None)
    (cell,) = [c for c in notebook_code._cells("07") if "copy" in c.metadata.get("tags", [])]
    exec(cell.source, {})
    said = capsys.readouterr().out
    assert all(f"{name}: 4 maps" in said for name in classes) and "mask" not in said
    split.masks = torch.ones(12, 32, 32, dtype=torch.bool)
    exec(cell.source, {})
    assert capsys.readouterr().out.count("a dot in the middle: 4") == 3


def repeats(name: str, *changes) -> bool:
    """Whether the deep dive's function is the core's, to the letter, comments aside."""
    body = lambda number, *more: ast.dump(ast.parse(_source(number, name, *more)))
    return body("07") == body("07_deep", *changes)


def _source(number: str, name: str, *changes) -> str:
    statements = notebook_code._statements(number, False)
    (text,) = [ast.unparse(s) for s in statements if getattr(s, "name", None) == name]
    for change in changes:
        text = notebook_code.plant(text, *change)
    return text


@pytest.mark.parametrize("name", ["pointing", "with_interval", "input_gradient"])
def test_the_deep_dive_repeats_the_cores_functions(name):
    assert repeats(name)
    parameter = list(inspect.signature(function("07", name)).parameters)[0]
    assert not repeats(name, (f"({parameter}, ", f"({parameter}s, "))


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
