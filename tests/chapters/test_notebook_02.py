"""Notebook 02: its parts against other sources of the same truth, its freeze and its widgets, its table, its exercises."""

import ast
import copy
import importlib.util
import json
import re

import nbformat
import numpy as np
import pytest
import torch
from scipy import signal, stats
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

import medtl_utils as mt
from medtl_utils import widgets
from medtl_utils.models import BLOCKS
from tests.conftest import ROOT, make_split, picture

NOTEBOOK = ROOT / "notebooks" / "02_shared_and_specific_layers.ipynb"


def weights_only(model):
    model.requires_grad_(False)
    model.fc.requires_grad_(True)


def then_eval(model):
    weights_only(model)
    model.eval()


def no_momentum(model):
    weights_only(model)
    for layer in model.modules():
        layer.momentum = 0.0


def too_little(model, free):
    mt.freeze(model, "layer4")
    getattr(model, free).requires_grad_(True)


MISTAKES = {
    "2.1": [
        (73_728, "scale and shift"),
        (74_112, "no bias"),
        (74_240, "buffers"),
        ("many", "Hint"),
        (7, "Hint"),
    ],
    "2.2": [
        (lambda model: model.requires_grad_(False), "head is frozen"),
        (weights_only, "statistics"),
        (then_eval, "statistics"),
        (no_momentum, "by the batch"),
        (lambda model: too_little(model, "layer4"), "layer4"),
        (lambda model: too_little(model, "conv1"), "conv1"),
        (lambda model: mt.freeze(copy.deepcopy(model), "layer3"), "layer4"),
        (lambda model: undefined, "NameError"),  # noqa: F821
        ("freeze", "function"),
    ],
    "2.3": [
        (lambda z, mean, sd, mm: (z - mm).abs().mean(), "undo"),
        (lambda z, mean, sd, mm: (z[:, 0] - mm).abs().mean(), "undo"),
        (lambda z, mean, sd, mm: (z * sd + mean - mm).abs().mean(), "16 differences"),
        (lambda z, mean, sd, mm: (z[:, 0] * sd + mean - mm).square().mean(), "squared"),
        (lambda z, mean, sd, mm: (z[:, 0] * sd + mean - mm).square().mean().sqrt(), "root"),
        (lambda z, mean, sd, mm: (z[:, 0] * sd + mean - mm).mean(), "cancel"),
        (lambda z, mean, sd, mm: (z[:, 0] - (mm - mean) / sd).abs().mean(), "standard deviations"),
        (lambda z, mean, sd, mm: (z[:, 0] * sd - mm).abs().mean(), "mean in it"),
        (lambda z, mean, sd, mm: (z[:, 0] * sd + mean - mm).abs(), "one number"),
        (1.5, "function"),
    ],
    "2.4": [(1, "includes zero"), (4, "smaller k"), (5, "smaller k"), ("2", "Hint"), (0, "Hint")],
}


def notebook(old="", new="") -> dict:
    """The notebook's functions and classes as a namespace; `old` -> `new` plants a mistake in their source."""
    cells = [
        c.source
        for c in nbformat.read(NOTEBOOK, 4).cells
        if c.cell_type == "code" and "copy" not in c.metadata.get("tags", [])
    ]
    nodes = [node for source in cells for node in ast.parse(source).body]
    wanted = [
        n for n in nodes
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)) or isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "BLOCKS"
    ]  # fmt: skip
    source = "\n\n".join(map(ast.unparse, wanted))
    assert old in source, f"{old!r} is not in the notebook any more"
    namespace = {
        "nn": nn,
        "torch": torch,
        "np": np,
        "mt": mt,
        "copy": copy,
        "stats": stats,
        "SEED": 20,
    }
    exec(source.replace(old, new), namespace)
    return namespace


def script():
    spec = importlib.util.spec_from_file_location(
        "make_transplant", ROOT / "data" / "results" / "make_transplant.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table() -> dict:
    return json.loads((ROOT / "data" / "results" / "transplant.json").read_text())


@pytest.fixture(scope="module")
def source() -> nn.Module:
    torch.manual_seed(0)
    model = mt.source_model("random")
    for layer in model.modules():  # statistics, scales and shifts that are not the trivial 0 and 1
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (layer.bias.data, layer.running_mean):
                tensor.normal_(0, 0.2)
    return model.eval()


# ---- parameters -------------------------------------------------------------------------------------------------------------


def counts_agree(count) -> bool:
    """Against torchvision's published number, the two numbers of the chapter, and a sum over the layers' sizes."""
    model = resnet18()
    by_formula = sum(
        m.out_channels * m.in_channels * m.kernel_size[0] ** 2 if isinstance(m, nn.Conv2d)
        else 2 * m.num_features if isinstance(m, nn.BatchNorm2d)
        else (m.in_features + 1) * m.out_features if isinstance(m, nn.Linear) else 0
        for m in model.modules()
    )  # fmt: skip
    published = ResNet18_Weights.IMAGENET1K_V1.meta["num_params"]
    return (
        count(model) == published == by_formula == 11_689_512
        and count(mt.replace_head(model, 2)) == 11_177_538
    )


def test_parameter_counts():
    assert counts_agree(notebook()["count"])


def test_the_count_test_bites():
    """Planted: buffers counted too; only what is trainable after freezing; biases forgotten."""
    assert not counts_agree(lambda m: sum(t.numel() for t in m.state_dict().values()))
    assert not counts_agree(lambda m: sum(p.numel() for p in m.parameters() if p.ndim > 1))


# ---- convolution, BatchNorm, residual block ---------------------------------------------------------------------------------


def convolution_agrees(convolve) -> bool:
    """With SciPy's correlation in float64, channel by channel."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 9, 11)), rng.normal(size=(5, 3, 3))
    want = sum(signal.correlate2d(x[c], w[c], mode="valid") for c in range(5))
    got = convolve(
        torch.tensor(x, dtype=torch.float32), torch.tensor(w, dtype=torch.float32)
    ).numpy()
    return got.shape == want.shape and np.allclose(got, want, atol=1e-4)


def test_convolution_by_hand():
    assert convolution_agrees(notebook()["convolve"])


def test_the_convolution_test_bites():
    """A mirrored kernel (what mathematicians call convolution), the first channel only, rows and columns swapped."""
    right = notebook()["convolve"]
    assert not convolution_agrees(lambda x, w: right(x, w.flip(1, 2)))
    assert not convolution_agrees(lambda x, w: right(x[:1], w[:1]))
    assert not convolution_agrees(lambda x, w: right(x, w.transpose(1, 2)))


def batchnorm_agrees(layer_class) -> bool:
    """With the formula in NumPy, float64, in training (twice) and evaluation mode; running variance unbiased."""
    rng = np.random.default_rng(1)
    gamma, beta, mean, var = (
        rng.uniform(0.5, 2, 3),
        rng.normal(size=3),
        rng.normal(size=3),
        rng.uniform(0.5, 2, 3),
    )
    layer = layer_class(3)
    state = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var}
    layer.load_state_dict(
        {k: torch.tensor(v, dtype=torch.float32) for k, v in state.items()}, strict=False
    )
    column, agree = lambda v: v[None, :, None, None], True
    for training in (True, True, False):
        x = rng.normal(1, 3, size=(4, 3, 5, 6))
        flat = x.transpose(1, 0, 2, 3).reshape(3, -1)
        mu, sigma2 = (flat.mean(1), flat.var(1)) if training else (mean, var)
        want = column(gamma) * (x - column(mu)) / np.sqrt(column(sigma2) + 1e-5) + column(beta)
        if training:
            mean, var = 0.9 * mean + 0.1 * flat.mean(1), 0.9 * var + 0.1 * flat.var(1, ddof=1)
        got = layer.train(training)(torch.tensor(x, dtype=torch.float32)).detach().numpy()
        agree &= np.allclose(got, want, atol=1e-4)
        agree &= np.allclose(layer.running_mean, mean, atol=1e-5) and np.allclose(
            layer.running_var, var, rtol=1e-5
        )
    return bool(agree)


def test_batchnorm_by_hand():
    assert batchnorm_agrees(notebook()["BatchNorm"]) and batchnorm_agrees(nn.BatchNorm2d)


@pytest.mark.parametrize(
    "planted",
    [
        ("unbiased=False", "unbiased=True"),
        ("var * n / (n - 1)", "var"),
        ("0.1 * (mu", "0.9 * (mu"),
        ("if self.training", "if not self.training"),
        ("x.mean((0, 2, 3))", "x.mean((0, 2, 3)) * 0"),
        ("1e-05", "0.1"),
    ],
)
def test_the_batchnorm_test_bites(planted):
    assert not batchnorm_agrees(notebook(*planted)["BatchNorm"])


def block_agrees(block_class, source) -> bool:
    block = block_class(64).eval()
    block.load_state_dict(source.layer1[0].state_dict())
    x = torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(0)).relu()
    with torch.no_grad():
        return torch.allclose(block(x), source.layer1[0](x), atol=1e-4)


def test_residual_block_by_hand(source):
    assert block_agrees(notebook()["ResidualBlock"], source)


@pytest.mark.parametrize(
    "planted",
    [
        ("(F + x).relu()", "F.relu()"),
        ("(F + x).relu()", "F.relu() + x"),
        ("padding=1", "padding=0"),
    ],
)
def test_the_block_test_bites(planted, source):
    try:
        assert not block_agrees(notebook(*planted)["ResidualBlock"], source)
    except RuntimeError as error:
        assert "size" in str(error)


# ---- freezing ---------------------------------------------------------------------------------------------------------------


def after_an_epoch(
    freeze, through, source, tiny_task
) -> tuple[list[bool], dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    model = mt.replace_head(copy.deepcopy(source), 2)
    freeze(model, through)
    torch.manual_seed(2)
    notebook()["train_one_epoch"](model, tiny_task.train)
    return [p.requires_grad for p in model.parameters()], model.state_dict()


def buffers_identical(freeze, source, tiny_task) -> bool:
    """After an epoch with everything but the head frozen, every tensor of the trunk has the bits that it had."""
    _, after = after_an_epoch(freeze, "layer4", source, tiny_task)
    return all(
        torch.equal(after[name], tensor)
        for name, tensor in source.state_dict().items()
        if not name.startswith("fc.")
    )


def equals_helper(freeze, source, tiny_task) -> bool:
    for through in BLOCKS:
        (flags, after), (wanted_flags, wanted) = (
            after_an_epoch(f, through, source, tiny_task) for f in (freeze, mt.freeze)
        )
        if flags != wanted_flags or any(
            not torch.allclose(after[k], wanted[k], atol=1e-6) for k in wanted
        ):
            return False
    return True


def requires_grad_only(model, through):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))


def test_frozen_buffers_are_bit_identical(source, tiny_task):
    assert buffers_identical(notebook()["freeze"], source, tiny_task) and buffers_identical(
        mt.freeze, source, tiny_task
    )


def test_the_buffer_test_bites(source, tiny_task):
    assert not buffers_identical(requires_grad_only, source, tiny_task)
    assert not buffers_identical(
        notebook("layer.register_forward_pre_hook(hold_still)", "layer.eval()")["freeze"],
        source,
        tiny_task,
    )


def test_the_notebooks_freeze_is_the_helpers(source, tiny_task):
    assert equals_helper(notebook()["freeze"], source, tiny_task)


@pytest.mark.parametrize(
    "planted",
    [("BLOCKS.index(through) + 1", "BLOCKS.index(through)"), ("('conv1', 'bn1')", "('conv1',)")],
)
def test_the_freeze_test_bites(planted, source, tiny_task):
    assert not equals_helper(notebook(*planted)["freeze"], source, tiny_task)


# ---- features, feature maps, intervals --------------------------------------------------------------------------------------


def maps_agree(maps_of, source) -> bool:
    """The hooks see what running the layers one by one gives."""
    images, net = make_split(n=3, size=64).images, copy.deepcopy(source).eval()
    found, agree = maps_of(source, images), True
    with torch.no_grad():
        x = net.maxpool(net.relu(net.bn1(net.conv1(net.normalisation(images)))))
        for block in BLOCKS:
            x = x if block == "stem" else getattr(net, block)(x)
            agree &= found[block].shape == x.shape and torch.allclose(found[block], x, atol=1e-4)
    return bool(agree) and not any(m._forward_hooks for m in source.modules())


def test_feature_maps_are_the_layers_outputs(source):
    assert maps_agree(notebook()["maps_of"], source)


def test_the_map_test_bites(source):
    """Hooks left behind; training mode; the stem before its pooling."""
    assert not maps_agree(notebook("handle.remove()", "pass")["maps_of"], copy.deepcopy(source))
    assert not maps_agree(
        notebook("model.eval()(", "model.train()(")["maps_of"], copy.deepcopy(source)
    )
    assert not maps_agree(notebook("model.maxpool", "model.relu")["maps_of"], copy.deepcopy(source))


def interval_agrees(over_patients) -> bool:
    """Mean and half width against the ratio's standard error over patients (delta method), within 20 %."""
    rng = np.random.default_rng(3)
    size = rng.integers(1, 5, 150)
    patients = np.repeat(np.arange(150), size).astype(str)
    values = np.repeat(rng.normal(2, 1, 150), size) + rng.normal(0, 0.3, len(patients))
    value, low, high = over_patients(values, patients)
    total, mean = np.array([values[patients == str(p)].sum() for p in range(150)]), values.mean()
    se = np.sqrt(150 / 149 * ((total - mean * size) ** 2).sum()) / size.sum()
    return abs(value - mean) < 1e-9 and abs((high - low) / 2 - 1.96 * se) < 0.2 * 1.96 * se


def test_interval_over_patients():
    assert interval_agrees(notebook()["over_patients"])


def test_the_interval_test_bites():
    """Planted: images drawn one by one, as if they were independent."""
    right = notebook()["over_patients"]
    assert not interval_agrees(lambda values, patients: right(values, np.arange(len(patients))))


# ---- CKA and the transplant -------------------------------------------------------------------------------------------------


def hsic_cka(X, Y) -> float:
    """Another definition: HSIC of the two centred Gram matrices, normalised (Gretton et al. 2005, Cortes et al. 2012)."""
    n = len(X)
    H = np.eye(n) - np.ones((n, n)) / n
    K, L = H @ (X @ X.T) @ H, H @ (Y @ Y.T) @ H
    return np.trace(K @ L) / np.sqrt(np.trace(K @ K) * np.trace(L @ L))


def cka_agrees(cka) -> bool:
    rng = np.random.default_rng(4)
    cases = [(rng.normal(2, 1, (30, 7)), rng.normal(-1, 3, (30, 4))) for _ in range(5)]
    cases += [(X, X[:, :3] @ rng.normal(size=(3, 9)) + 1) for X, _ in cases]
    return all(abs(cka(X, Y) - hsic_cka(X, Y)) < 1e-10 for X, Y in cases)


def test_cka_equals_the_hsic_form():
    assert cka_agrees(notebook()["cka"]) and cka_agrees(script().cka)


@pytest.mark.parametrize(
    "planted",
    [
        ("X - X.mean(0)", "X"),
        ("Y - Y.mean(0)", "Y"),
        ("** 2", "** 1"),
        ("X - X.mean(0)", "X - X.mean()"),
    ],
)
def test_the_cka_test_bites(planted):
    """Not centred, the square forgotten, one mean for all columns."""
    assert not cka_agrees(notebook(*planted)["cka"])


def same_transplant(a, b, source) -> bool:
    for k in range(6):
        models = []
        for transplant in (a, b):
            torch.manual_seed(5)
            models.append(transplant(source, k).state_dict())
        if any(not torch.equal(models[0][name], models[1][name]) for name in models[0]):
            return False
    return True


def test_the_notebooks_transplant_is_the_scripts(source):
    assert same_transplant(notebook()["transplant"], script().transplant, source)
    model = script().transplant(source, 2).state_dict()
    same = {
        name.split(".")[0]
        for name, t in source.state_dict().items()
        if t.ndim == 4 and torch.equal(t, model[name])
    }
    assert same == {"conv1", "layer1"}


@pytest.mark.parametrize(
    "planted", [("BLOCKS[:k]", "BLOCKS[:k - 1]"), ("('conv1', 'bn1')", "('conv1',)")]
)
def test_the_transplant_test_bites(planted, source):
    assert not same_transplant(notebook(*planted)["transplant"], script().transplant, source)


def slice_agrees(again, table, scored, k) -> bool:
    """One run against the kept rows: AUC within four seed SDs, CKA within 0.2, which another processor may need."""
    kept = [
        r["auc"]
        for r in table["runs"]
        if (r["data"], r["kind"], r["k"]) == ("simulated", "tuned", k)
    ]
    auc = mt.evaluate(again[f"tuned/{k}"], scored, n_boot=20)["auc"][0]
    cka = [r["value"] for r in table["similarity"] if (r["data"], r["k"]) == ("simulated", k)]
    close = np.abs(again[f"cka/{k}"].numpy() - cka).max() < 0.2
    return bool(close and abs(auc - kept[0]) < 4 * np.std(kept, ddof=1))


def test_a_slice_of_the_table_is_reproduced(table):
    """Seed 2001, both ends; planted mistake: a transplant that copies nothing in place of one that copies all."""
    make = script()
    scored, task = make.scored_split("simulated"), make.labelled("simulated", 2001)
    again = make.run("simulated", 2001, [("tuned", 0), ("tuned", 5)], task, scored)
    assert slice_agrees(again, table, scored, 0) and slice_agrees(again, table, scored, 5)
    mutant = {"tuned/5": again["tuned/0"], "cka/5": again["cka/0"]}
    assert not slice_agrees(mutant, table, scored, 5)


def test_the_summary_is_that_of_the_runs(table):
    for row in table["summary"]:
        aucs = [
            r["auc"]
            for r in table["runs"]
            if all(r[key] == row[key] for key in ("data", "kind", "k"))
        ]
        interval = stats.t.interval(0.95, len(aucs) - 1, np.mean(aucs), stats.sem(aucs))
        assert np.allclose(
            [row["auc"]["value"], row["auc"]["low"], row["auc"]["high"]],
            [np.mean(aucs), *interval],
            atol=2e-4,
        )
        assert len(aucs) == row["n_seeds"] >= 5
        if row["k"]:
            base = [
                r["auc"]
                for r in table["runs"]
                if (r["data"], r["kind"], r["k"]) == (row["data"], "tuned", 0)
            ]
            assert abs(row["gain"]["value"] - np.mean(np.array(aucs) - base)) < 2e-4
            assert row["gain"]["low"] < row["gain"]["value"] < row["gain"]["high"]


def test_the_prose_says_what_the_table_says(table):
    """Sections 6 and 7 and the summary: when the table changes, these sentences must be read again."""
    gain = {(r["data"], r["kind"], r["k"]): r["gain"] for r in table["summary"] if r["k"]}
    sure = lambda data, kind: [
        k for k in range(1, 6) if (data, kind, k) in gain and gain[data, kind, k]["low"] > 0
    ]
    assert sure("simulated", "tuned") == [1, 2, 3, 4, 5] and sure("real", "tuned") == [2, 3, 4, 5]
    text = "\n".join(
        c.source for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "markdown"
    )
    summary = text.split("## Summary")[1].split("## Exercises")[0]
    for key in (("simulated", "tuned", 5), ("simulated", "frozen", 5), ("real", "tuned", 5)):
        assert all(f"{gain[key][part]:+.2f}" in summary for part in ("value", "low", "high")), (
            key,
            gain[key],
        )
    auc = lambda data, k: np.array(
        [r["auc"] for r in table["runs"] if (r["data"], r["kind"], r["k"]) == (data, "tuned", k)]
    )
    for data, wanted in (
        ("simulated", [1]),
        ("real", [5]),
    ):  # single steps that are surely above zero
        low = [
            stats.t.interval(0.95, len(d) - 1, d.mean(), stats.sem(d))[0]
            for d in (auc(data, k) - auc(data, k - 1) for k in range(1, 6))
        ]
        assert [k + 1 for k in range(5) if low[k] > 0] == wanted
    for data in ("simulated", "real"):
        cka = {(r["block"], r["k"]): r["value"] for r in table["similarity"] if r["data"] == data}
        assert cka["stem", 5] > 0.9 and cka["stem", 0] > 0.8 and cka["layer1", 5] < cka["layer2", 5]
        assert (
            min(BLOCKS, key=lambda block: cka[block, 5]) == "layer4"
            and max(BLOCKS, key=lambda block: cka[block, 5]) == "stem"
        )
        assert (
            all(cka[block, 5] > cka[block, 0] + 0.1 for block in BLOCKS[1:])
            and cka["stem", 5] < cka["stem", 0] + 0.1
        )
        assert all(
            cka["stem", 0] > cka[block, 0] + 0.3 for block in BLOCKS[1:]
        )  # only the stem from scratch resembles the source's


# ---- widgets ----------------------------------------------------------------------------------------------------------------


def test_feature_maps_widget(shown, source):
    model, split = copy.deepcopy(source).train(), make_split("val", 6, size=64)
    box = widgets.feature_maps(model, split)
    (layer, _), (image, _) = (row.children for row in box.children[:2])
    seen = [picture(box)]
    for place, block in enumerate(BLOCKS):
        layer.value = place
        maps = notebook()["maps_of"](copy.deepcopy(source), split.images[:1])[block][0]
        liveliest = int(
            maps.flatten(1).std(1).argmax()
        )  # the notebook's own hook finds the same first channel
        size = "×".join(map(str, maps.shape[1:]))
        assert (
            f"eight of {len(maps)} feature maps of {block} that vary most: channels {liveliest},"
            in picture(box)
        )
        assert f"each of {size} squares" in picture(box)
        seen.append(picture(box))
    image.value = 5
    assert (
        "Image 5 (malignant)" in picture(box)
        and picture(box) not in seen
        and len(set(seen)) == len(BLOCKS)
    )
    assert model.training and not any(m._forward_hooks for m in model.modules())


def test_freeze_slider_counts_what_freeze_freezes(shown, source):
    box = widgets.freeze_slider(mt.replace_head(copy.deepcopy(source), 2))
    slider, _ = box.children[0].children
    for place, through in enumerate([None, *BLOCKS]):
        slider.value = place
        model = mt.freeze(
            mt.replace_head(copy.deepcopy(source), 2),
            through,
            batchnorm="frozen" if through else "train",
        )
        learn = sum(p.numel() for p in model.parameters() if p.requires_grad)
        before = {name: b.clone() for name, b in model.train().named_buffers()}
        model(torch.randn(4, 3, 32, 32))
        stay = sum(
            b.numel()
            for name, b in model.named_buffers()
            if "running" in name and torch.equal(b, before[name])
        )
        found = re.search(
            r"([\d,]+) of 11,177,538 parameters learn; ([\d,]+) of 9,600", picture(box)
        )
        assert [int(n.replace(",", "")) for n in found.groups()] == [learn, stay]
    assert "Frozen: stem, layer1, layer2, layer3, layer4." in picture(box)
