"""Lab 04b: the audit finds planted faults and no others; the widget; what the prose says."""

import html
import json
import re

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from medtl_utils import freeze, replace_head, source_model, widgets
from medtl_utils.paths import data_folder
from medtl_utils.widgets import chapter_04
from tests.chapters.notebook_code import function, prose
from tests.conftest import picture

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


# ---- the copy cell -----------------------------------------------------------------------------


def network(fault: str) -> nn.Module:
    """A ResNet-18 whose batch statistics differ from the stored ones, with one planted fault."""
    torch.manual_seed(0)
    model = replace_head(source_model("random"), 3)
    freeze(model, batchnorm="frozen")
    if fault == "drift":
        freeze(model, batchnorm="train")
    if fault == "neighbours":
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean = layer.running_var = None  # then eval() uses the batch
    if fault == "softmax":
        model.fc = nn.Sequential(model.fc, nn.Softmax(dim=1))
    return model


FAULTS = {"drift": "drift in training mode", "neighbours": "depends on", "softmax": "sum to 1"}


def audit_finds(audit, fault: str) -> bool:
    model = network(fault)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    found = audit(model, IMAGES)
    unchanged = all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    wanted = [FAULTS[fault]] if fault else []
    hits = len(found) == len(wanted) and all(w in f for w, f in zip(wanted, found))
    return unchanged and hits


@pytest.mark.parametrize("fault", ["", *FAULTS])
def test_the_audit_finds_what_is_planted_and_nothing_else(fault):
    assert audit_finds(function("04b", "audit", copy=True), fault)


@pytest.mark.parametrize(
    ("mistake", "fault"),
    [
        (("copy.deepcopy(model).train()", "model.train()"), "drift"),
        (("not learns(m)", "learns(m)"), "drift"),
        (("atol=0.0001", "atol=1000.0"), "neighbours"),
        (("(together >= 0).all() and ", "not "), "softmax"),
    ],
)
def test_the_audit_test_bites(mistake, fault):
    assert not audit_finds(function("04b", "audit", mistake, copy=True), fault)


# ---- the widget ---------------------------------------------------------------------------------


def reports_are_maxima(reported_aucs) -> bool:
    """Against scikit-learn's AUC on the same scores, and against the truth for one candidate."""
    rng = np.random.default_rng(5)
    own, shared = rng.normal(size=(3, 4, 40)), rng.normal(size=(3, 1, 40))
    scores = np.sqrt(0.8) * shared + np.sqrt(0.2) * own
    scores[..., :12] += 1.190232
    labels = np.arange(40) < 12
    want = [max(roc_auc_score(labels, s) for s in study) for study in scores]
    alone = reported_aucs(1, 200, 400, 0).mean()
    return np.allclose(reported_aucs(4, 40, 3, 5), want) and abs(alone - 0.8) < 0.01


def test_the_best_of_many_is_the_maximum():
    assert reports_are_maxima(chapter_04._reported_aucs)
    first = lambda candidates, *rest: chapter_04._reported_aucs(1, *rest)
    assert not reports_are_maxima(first)


def test_the_caption_of_best_of_many(shown):
    box = widgets.best_of_many()
    for candidates, images in ((10, 100), (1, 400)):
        box.children[0].value, box.children[1].value = candidates, images
        reported = chapter_04._reported_aucs(candidates, images, 300, 0)
        low, high = np.percentile(reported, [2.5, 97.5])
        said = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))
        assert f"{reported.mean():.3f} on average" in said
        assert f"between {low:.3f} and {high:.3f}" in said


# ---- what the prose says of the table ----------------------------------------------------------


def what_the_prose_says_of_the_table(table) -> list[str]:
    """Statements of section 6 to 8 and of the summary that the table does not carry."""
    rows = {(row["what"], row["metric"]): row for row in table["summary"]}
    least = sorted(
        (row["difference"], what) for (what, metric), row in rows.items() if metric == "accuracy"
    )
    mismatch = {"0..255 at prediction only", "0..1 at prediction only"}
    mismatch |= {"predict in training mode, one by one", "frozen layers, 0..255 throughout"}
    lower = lambda what: rows[what, "accuracy"]["high"] < 0
    twice, drift = rows["softmax before the loss", "auc"], "frozen layers, BatchNorm forgotten"
    zero = lambda row: row["low"] <= 0 <= row["high"]
    chosen = table["best_epoch"]
    statements = {
        "a mismatch costs most": {what for _, what in least[:4]} == mismatch,
        "each of them costs": all(map(lower, mismatch)),
        "consistent scaling showed no cost": zero(rows["0..255 in training and prediction", "auc"])
        and zero(rows["0..1 in training and prediction", "auc"]),
        "frozen, 0 to 255 costs much": lower("frozen layers, 0..255 throughout"),
        "a second softmax: zero and seven points": zero(twice) and twice["low"] < -0.07,
        "drift: no cost shown": zero(rows[drift, "auc"]) and zero(rows[drift, "accuracy"]),
        "choosing: cannot say": zero(chosen["true_gain_of_best"]),
        "its number is too good": chosen["optimism_of_best"]["low"] > 0,
        "five runs": len(table["seeds"]) == 5,
    }
    return [words for words, holds in statements.items() if not holds]


def test_the_table_carries_what_the_prose_says():
    table = json.loads((data_folder() / "results" / "snippet.json").read_text())
    assert what_the_prose_says_of_the_table(table) == []
    assert "losses of seven\n  points of AUC" in prose("04b") and "five runs" in prose("04b")
    for row in table["summary"]:  # planted: the table upside down
        row["difference"], row["low"], row["high"] = -row["difference"], -row["high"], -row["low"]
    table["best_epoch"]["optimism_of_best"]["low"] *= -1
    assert len(what_the_prose_says_of_the_table(table)) >= 4
