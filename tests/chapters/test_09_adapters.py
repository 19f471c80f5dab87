"""Notebook 09: adapters begin as the source, LoRA merges, L2-SP has its closed form."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medtl_utils import predict, replace_head, source_model
from studies import adapters as study
from tests.chapters.notebook_code import function, namespace

N, DEEP = namespace("09"), namespace("09_deep")
MOVED = {
    "probe": 1_026,
    "scale and shift": 10_626,
    "BatchNorm only": 10_626,
    "LoRA": 138_498,
    "residual adapter": 1_221_634,
    "full": 11_177_538,
}


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    return replace_head(source_model("ultrasound"), 2).eval()


def notebooks_methods(space: dict = N) -> dict:
    """METHODS as the notebook writes them: no constant that can be taken out."""
    affine, everywhere = space["batchnorm_affine"], space["everywhere"]
    return {
        "scale and shift": lambda model: affine(model, "eval"),
        "BatchNorm only": lambda model: affine(model, "train"),
        "LoRA": lambda model: everywhere(model, space["lora"]),
        "residual adapter": lambda model: everywhere(model, space["residual_adapter"]),
    }


def images(n: int = 4) -> torch.Tensor:
    return torch.randint(0, 255, (n, 1, 64, 64), generator=torch.Generator().manual_seed(1)).byte()


class Images:
    def __init__(self, images):
        self.images = images


# ---- step 0 --------------------------------------------------------------------------------------


def begins_as_the_source(method, base) -> bool:
    adapted = method(copy.deepcopy(base))
    return torch.equal(predict(adapted, Images(images())), predict(base, Images(images())))


@pytest.mark.parametrize("name", MOVED)
def test_step_0_is_the_source(name, base):
    for methods in (study.METHODS, notebooks_methods()):
        if name in methods:
            assert begins_as_the_source(methods[name], base)


@pytest.mark.parametrize("method", ["LoRA", "residual adapter"])
@pytest.mark.parametrize(
    "change",
    [
        ("nn.init.zeros_(side[-1].weight)", "nn.init.ones_(side[-1].weight)"),
        ("self.conv(x) + self.side(x)", "self.side(x)"),
    ],
)
def test_the_step_0_test_bites(method, change, base):
    planted = notebooks_methods(namespace("09", change, within="Beside"))
    assert not begins_as_the_source(planted[method], base)


# ---- what moves ----------------------------------------------------------------------------------


def moves_only_what_may(method, base, wanted: int) -> bool:
    """After three steps of SGD the frozen tensors are bit-identical, the others are not."""
    torch.manual_seed(0)
    model = method(copy.deepcopy(base))
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        model.train()
        loss = model(model.normalisation(images(8))).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return changed == set(names) and count == wanted


@pytest.mark.parametrize("name", MOVED)
def test_only_what_may_move_moves(name, base):
    for methods in (study.METHODS, notebooks_methods()):
        if name in methods:
            assert moves_only_what_may(methods[name], base, MOVED[name])


def test_the_test_of_moving_bites(base):
    loose = ("conv.requires_grad_(False)", "conv.requires_grad_(True)")
    planted = notebooks_methods(namespace("09", loose, within="Beside"))
    assert not moves_only_what_may(planted["LoRA"], base, MOVED["LoRA"])
    forgot = function("09", "batchnorm_affine", ("model.requires_grad_(False)", "model"))
    assert not moves_only_what_may(lambda m: forgot(m, "eval"), base, MOVED["scale and shift"])


def statistics_move(method, base) -> bool:
    model = method(copy.deepcopy(base)).train()
    model(model.normalisation(images(8)))
    return not torch.equal(model.bn1.running_mean, base.bn1.running_mean)


def test_only_batchnorm_only_takes_the_targets_statistics(base):
    methods = notebooks_methods()
    assert statistics_move(methods["BatchNorm only"], base)
    assert statistics_move(study.METHODS["full"], base)
    for name in ("scale and shift", "LoRA", "residual adapter"):
        assert not statistics_move(methods[name], base)
        assert not statistics_move(study.METHODS[name], base)


# ---- LoRA ----------------------------------------------------------------------------------------


def trained_lora(lora, conv: nn.Conv2d, rank: int):
    torch.manual_seed(3)
    layer = lora(conv, rank)
    nn.init.normal_(layer.side[1].weight, std=0.3)
    return layer


def merges(merged) -> bool:
    layer = trained_lora(N["lora"], nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), 2)
    before, x = layer.conv.weight.clone(), torch.randn(3, 6, 9, 9)
    same = torch.allclose(merged(layer)(x), layer(x), atol=1e-4)
    return same and torch.equal(layer.conv.weight, before)


def test_merged_lora_is_unmerged_lora():
    assert merges(DEEP["merged"])
    for change in (
        ("'or,rikl->oikl'", "'or,rilk->oikl'"),
        ("copy.deepcopy(layer.conv)", "layer.conv"),
        ("conv.weight += torch", "conv.weight -= torch"),
    ):
        assert not merges(function("09_deep", "merged", change))


def same_lora(lora) -> bool:
    """The notebook's gives the outputs of the study's, for the same weights."""
    layer = trained_lora(lora, nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), 2)
    theirs, x = study.LoRAConv(copy.deepcopy(layer.conv), 2), torch.randn(3, 6, 9, 9)
    theirs.A.load_state_dict(layer.side[0].state_dict())
    theirs.B.load_state_dict(layer.side[1].state_dict())
    return torch.equal(theirs(x), layer(x))


def test_the_deep_dive_and_the_study_have_the_same_lora():
    assert same_lora(N["lora"]) and same_lora(DEEP["lora"])
    wrong = lambda conv, rank: N["lora"](conv, rank + 1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        same_lora(wrong)


def test_lora_is_pefts():
    pytest.importorskip("peft")
    base = replace_head(source_model("random"), 2).eval()
    layer = trained_lora(DEEP["lora"], copy.deepcopy(base.layer2[0].conv1), 3)
    x = torch.randn(2, 3, 64, 64)

    def is_pefts(with_peft) -> bool:
        theirs = with_peft(base, "layer2.0.conv1", layer)
        ours = copy.deepcopy(base)
        ours.layer2[0].conv1 = layer
        return torch.allclose(ours(x), theirs(x), atol=1e-3)

    with torch.no_grad():
        assert is_pefts(DEEP["with_peft"])
        twice = ("lora_alpha=len(A.weight)", "lora_alpha=2 * len(A.weight)")
        assert not is_pefts(function("09_deep", "with_peft", twice))


# ---- L2-SP ---------------------------------------------------------------------------------------


def is_the_minimum(l2_sp) -> bool:
    """The study's loss, minimised by gradient descent on ridge regression in double precision."""
    rng = np.random.default_rng(0)
    X, y, w0 = rng.normal(size=(12, 5)), rng.normal(size=12), rng.normal(size=5)
    w = torch.tensor(w0, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [w], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        rest = torch.tensor(X) @ w - torch.tensor(y)
        loss = (rest @ rest + 3.0 * ((w - torch.tensor(w0)) ** 2).sum()) / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return bool(np.allclose(l2_sp(X, y, w0, 3.0), w.detach().numpy(), atol=1e-6))


def test_l2_sp_has_its_closed_form():
    assert is_the_minimum(DEEP["l2_sp"])
    assert is_the_minimum(lambda *a: DEEP["by_descent"](*a))
    for change in (("X.T @ y + lam * w0", "X.T @ y"), ("lam * np.eye", "np.eye")):
        assert not is_the_minimum(function("09_deep", "l2_sp", change))


class Line(nn.Module):
    """Two logits from five features: a body that is pulled, and a head that is not."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(5, 5, bias=False), nn.Linear(5, 2, bias=False)

    def forward(self, x):
        return self.head(self.body(x))


def pulls(pulled_to_source) -> bool:
    """The gradient of the loss: that of cross-entropy, plus pull times the way from the source."""
    torch.manual_seed(0)
    model, x, y = Line(), torch.randn(8, 5), torch.arange(8) % 2
    loss = pulled_to_source(model, 0.3)
    moved = [torch.randn_like(p) for p in model.parameters()]
    with torch.no_grad():
        for p, way in zip(model.parameters(), moved):
            p += way
    nn.functional.cross_entropy(model(x), y).backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    loss(model(x), y).backward()
    body, head = (p.grad - g for p, g in zip(model.parameters(), plain))
    return torch.allclose(body, 0.3 * moved[0], atol=1e-5) and torch.allclose(head, 0 * head)


def test_the_studys_loss_pulls_the_shared_layers_to_the_source():
    assert pulls(study.pulled_to_source)
    assert not pulls(lambda model, pull: study.pulled_to_source(model, 2 * pull))
    assert not pulls(lambda model, pull: nn.functional.cross_entropy)


# ---- the copy cell -------------------------------------------------------------------------------


def random_weights_stay(features) -> bool:
    """Two calls see one random network: images to learn from and held out must not see two."""
    torch.manual_seed(4)
    return torch.equal(features("random", images(2)), features("random", images(2)))


def test_the_copy_cell_has_one_random_network():
    assert random_weights_stay(namespace("09", copy=True)["features"])
    forgot = function("09", "features", ("torch.manual_seed(0)", "pass"), copy=True)
    assert not random_weights_stay(forgot)
