"""What notebook 05 builds in sight against the helper, scikit-learn and the studies.

Beside each comparison stand planted mistakes on which it fails. The loop of section 4 is compared
with `fine_tune` in test_notebooks.py.
"""

import ast
import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medtl_utils import freeze, load_model, param_groups, predict, replace_head, source_model
from medtl_utils.data import Task
from studies import probe
from tests.chapters.notebook_code import _statements, function, namespace, plant
from tests.conftest import make_split


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return replace_head(source_model("random"), 2)


# ---- BatchNorm's modes ------------------------------------------------------------------------


def modes_are_the_helpers(network, *changes) -> bool:
    """The same outputs in training mode, the same statistics afterwards, the same that learns."""
    set_batchnorm, images = function("05", "set_batchnorm", *changes), torch.randn(8, 3, 32, 32)
    same = []
    for mode in ("train", "eval", "frozen"):
        ours = set_batchnorm(copy.deepcopy(network), mode).train()
        theirs = freeze(copy.deepcopy(network), through=None, batchnorm=mode).train()
        with torch.no_grad():
            same.append(torch.equal(ours(images), theirs(images)))
        pairs = zip(ours.state_dict().values(), theirs.state_dict().values())
        same.append(all(torch.equal(a, b) for a, b in pairs))
        learn = [[p.requires_grad for p in model.parameters()] for model in (ours, theirs)]
        same.append(learn[0] == learn[1])
    return all(same)


def test_batchnorms_modes(network):
    assert modes_are_the_helpers(network)


@pytest.mark.parametrize(
    "change",
    [
        ("layer.register_forward_pre_hook(hold)", "layer.eval()"),
        ("mode != 'train'", "mode == 'frozen'"),
        ("mode != 'frozen'", "mode == 'train'"),
        ("mode != 'frozen'", "True"),
    ],
)
def test_the_test_of_the_modes_bites(network, change):
    assert not modes_are_the_helpers(network, change)


# ---- discriminative rates ---------------------------------------------------------------------


def rates_are_the_helpers(network, *changes) -> bool:
    """For every parameter the rate that `param_groups` gives it."""
    rates_by_block = function("05", "rates_by_block", *changes)
    given = []
    for make in (rates_by_block, param_groups):
        groups = make(network, lr=0.001, decay=0.3)
        given.append({id(p): group["lr"] for group in groups for p in group["params"]})
    ours, theirs = given
    return ours.keys() == theirs.keys() and all(np.isclose(ours[k], theirs[k]) for k in theirs)


def test_rates_by_block(network):
    assert rates_are_the_helpers(network)


@pytest.mark.parametrize(
    "change",
    [
        ("reversed(BLOCKS)", "BLOCKS"),
        ("decay ** depth", "decay"),
        ("for name in names for p", "for name in names[:1] for p"),
    ],
)
def test_the_test_of_the_rates_bites(network, change):
    assert not rates_are_the_helpers(network, change)


# ---- the probe and its head --------------------------------------------------------------------


def head_is_the_probe(network, *changes) -> bool:
    """scikit-learn's probabilities inside the network, and those of the studies' head."""
    space = namespace("05", *changes, within="set_head")
    split = make_split(n=40)
    x = space["features"](network, split)
    fitted = space["fit_probe"](x, split.labels, 0.1)
    model = space["set_head"](copy.deepcopy(network), fitted)
    theirs = probe.set_head(copy.deepcopy(network), split, 0.1)
    ours = predict(model, split).numpy()
    same = np.allclose(ours, fitted.predict_proba(x), atol=1e-5)
    return same and np.allclose(ours, predict(theirs, split).numpy(), atol=1e-3)


def test_the_probe_becomes_a_head(network):
    assert head_is_the_probe(network)


@pytest.mark.parametrize(
    "change",
    [
        ("regression.coef_[0] / scaler.scale_", "regression.coef_[0] / (1 + scaler.scale_)"),
        ("- w @ torch.tensor(scaler.mean_)", ""),
        ("torch.stack([-w / 2, w / 2])", "torch.stack([w / 2, -w / 2])"),
        ("torch.stack([-b / 2, b / 2])", "torch.stack([-b, b])"),
    ],
)
def test_the_test_of_the_head_bites(network, change):
    assert not head_is_the_probe(network, change)


def test_features_are_the_studies(network):
    split = make_split(n=6)
    ours = function("05", "features")(network, split)
    assert np.allclose(ours, probe.features_of(copy.deepcopy(network), split.images), atol=1e-5)


# ---- grouped cross-validation -------------------------------------------------------------------


def cross_validation_is_sklearns(*changes) -> bool:
    cross_validated = function("05", "cross_validated", *changes)
    rng, fold = np.random.default_rng(0), np.repeat(np.arange(4), 30)
    y = rng.integers(0, 2, 120)
    x = rng.normal(size=(120, 8)) + 0.5 * y[:, None]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000))
    want = cross_val_score(model, x, y, scoring="roc_auc", cv=PredefinedSplit(fold))
    parts = [[of[fold == k] for k in range(4)] for of in (x, y)]
    return np.allclose(cross_validated(*parts, 0.1), want)


def test_cross_validation():
    assert cross_validation_is_sklearns()


@pytest.mark.parametrize("change", [("if j != k", ""), ("if j != k", "if j > 0"), ("y[k]", "y[0]")])
def test_the_test_of_cross_validation_bites(change):
    assert not cross_validation_is_sklearns(change)


# ---- the look at other images -------------------------------------------------------------------


def validation_is_sklearns(network, *changes) -> bool:
    space = namespace("05", *changes, within="validate")
    norm, split = network.normalisation, make_split("val", 20, seed=3)
    space["mean"], space["std"] = (torch.tensor(v).view(3, 1, 1) for v in (norm.mean, norm.std))
    loss, auc = space["validate"](copy.deepcopy(network).train(), split)
    p = predict(network, split)[:, 1].double().numpy()
    want = log_loss(split.labels, p), roc_auc_score(split.labels, p)
    return bool(np.allclose((loss, auc), want, atol=1e-5))


def test_validation(network):
    assert validation_is_sklearns(network)


@pytest.mark.parametrize(
    "change",
    [("model.eval()", "model.train()"), ("split.labels == split.positive", "split.labels == 0")],
)
def test_the_test_of_validation_bites(network, change):
    assert not validation_is_sklearns(network, change)


# ---- what is said of an interval ----------------------------------------------------------------


def intervals_are_read_right(*changes) -> bool:
    said = function("05", "said", *changes)
    return (
        said(0.02, -0.01, 0.05) == "+0.020 (-0.010 to +0.050) cannot say"
        and said(0.03, 0.01, 0.05).endswith(") above 0")
        and said(-0.03, -0.05, -0.01).endswith(") below 0")
        and said(0.01, 0.0, 0.02).endswith(") cannot say")
    )


def test_what_is_said_of_an_interval():
    assert intervals_are_read_right()


@pytest.mark.parametrize("wrong", ["low <= 0", "0 <= high", "low < 0 < high", "value == 0"])
def test_the_test_of_the_words_bites(wrong):
    assert not intervals_are_read_right(("low <= 0 <= high", wrong))


# ---- the copy cell ------------------------------------------------------------------------------


SIZES = {"train": 24, "val": 12, "test": 18}


def three_colourful_classes() -> Task:
    parts = [make_split(name, n, seed=n, classes=("a", "b", "c")) for name, n in SIZES.items()]
    for split in parts:
        split.images, split.positive = split.images.repeat(1, 3, 1, 1), None
    return Task("colourful", *parts[:2], "a card", parts[2])


def copy_cell(monkeypatch, folder, task, *changes) -> None:
    """Run the copy cell on another task, with the test set opened."""
    monkeypatch.setattr("medtl_utils.datasets.load_task", lambda *args, **options: task)
    monkeypatch.chdir(folder)
    text = "\n".join(map(ast.unparse, _statements("05", copy=True)))
    for change in (("FINAL = False", "FINAL = True"), *changes):
        text = plant(text, *change)
    exec(text, {})


def test_the_copy_cell_works_on_three_classes_in_colour(monkeypatch, tmp_path, capsys):
    task = three_colourful_classes()
    copy_cell(monkeypatch, tmp_path, task)
    said = capsys.readouterr().out
    assert said.count("AUC") == 2 and "opened 1 time(s)" in said and len(task.openings) == 1
    assert load_model(tmp_path / "my_model.safetensors").fc.out_features == 3


def test_the_copy_cell_works_on_grey_images_of_two_classes(monkeypatch, tmp_path, tiny_task):
    copy_cell(monkeypatch, tmp_path, tiny_task)
    assert load_model(tmp_path / "my_model.safetensors").fc.out_features == 2


def test_the_test_of_the_copy_cell_bites(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="The head has 2 outputs, the task 3 classes"):
        two = ("len(task.classes)", "2")
        copy_cell(monkeypatch, tmp_path, three_colourful_classes(), two)
