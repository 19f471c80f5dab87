"""The script that makes the source models, run small: what it writes, that it goes on after a kill, what it learns from."""

import hashlib
import json

import numpy as np
import pytest
import torch
from scipy import stats

from medtl_utils import models
from studies import pretrain
from medtl_utils.phantom import DESCRIPTORS
from tests.conftest import ROOT


@pytest.fixture
def small(monkeypatch):
    """Chunks of 32 pictures, two in memory, two steps of 16 a round."""
    for name, value in {
        "VALIDATION_COUNT": 32,
        "CHUNK": 32,
        "POOL": 2,
        "BATCH": 16,
        "STEPS": 2,
    }.items():
        monkeypatch.setattr(pretrain, name, value)


def weights(folder, file=models.ULTRASOUND_FILE):
    return torch.cat(
        [v.flatten().float() for v in models.load_model(folder / file).state_dict().values()]
    )


def test_pretraining_runs_and_writes_what_source_model_reads(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["pretrain", "--images", "96", "--passes", "96", "--out", str(tmp_path)]
    )
    pretrain.main()
    assert "min left" in capsys.readouterr().out
    model = models.load_model(tmp_path / models.ULTRASOUND_FILE)
    assert model.fc.out_features == 18 and model.heads["values"]["margin"] == list(
        DESCRIPTORS["margin"]
    )
    assert not any(name.startswith("mask") for name in model.state_dict())
    written = json.loads((tmp_path / "results" / "pretrain.json").read_text())
    assert written["passes"] == 96 and written["command"].startswith(
        "python -m medtl_utils.pretrain --task ultrasound --images 96"
    )
    assert not list((tmp_path / "cache").iterdir())  # the checkpoint has done its work
    digest = hashlib.sha256((tmp_path / models.ULTRASOUND_FILE).read_bytes()).hexdigest()
    assert (
        digest
        in (tmp_path / "results" / "pretrain.md").read_text()
        == pretrain.card(written, digest)
    )


class Killed(Exception):
    pass


def killed_and_resumed(tmp_path, monkeypatch, **mutant) -> bool:
    """Whether a run killed in its third round and called again ends in the bits of an undisturbed one."""
    pretrain.pretrain(96, 128, tmp_path / "whole")
    original, calls = pretrain.accuracies, []

    def kill(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(pretrain, "accuracies", kill)
    with pytest.raises(Killed):
        pretrain.pretrain(96, 128, tmp_path / "broken")
    monkeypatch.setattr(pretrain, "accuracies", original)
    for name, value in mutant.items():
        monkeypatch.setattr(pretrain, name, value)
    pretrain.pretrain(96, 128, tmp_path / "broken")
    return torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


def test_a_killed_run_goes_on_bit_for_bit(small, tmp_path, monkeypatch, capsys):
    assert killed_and_resumed(tmp_path, monkeypatch)
    assert "going on after round 2 of 4" in capsys.readouterr().out


def test_the_resume_test_bites(small, tmp_path, monkeypatch):
    """Planted mistake: the optimiser's state is lost."""

    def forgetful(path, model, optimizer, schedule, run):
        fresh = torch.optim.AdamW(model.parameters()).state_dict()["state"]
        history = original(path, model, optimizer, schedule, run)
        optimizer.load_state_dict(
            {"state": fresh, "param_groups": optimizer.state_dict()["param_groups"]}
        )
        return history

    original = pretrain._resume
    assert not killed_and_resumed(tmp_path, monkeypatch, _resume=forgetful)


def test_the_pictures_are_a_stream(small, tmp_path, monkeypatch):
    """Every picture is made once, chunk by chunk as training goes on, and never more than the pool is held."""
    made = []
    monkeypatch.setitem(
        pretrain.TASKS,
        "shapes",
        (
            lambda start, count, **k: (
                made.append((start, count)),
                pretrain.simulate_shapes(start, count),
            )[1],
            "s.safetensors",
            "x",
        ),
    )
    pretrain.pretrain(150, 128, tmp_path, task="shapes")
    training = [m for m in made if m[0] < pretrain.VALIDATION_START]
    assert training == [(0, 32), (32, 32), (64, 32), (96, 32), (128, 22)]


def test_descriptors_count_only_where_there_is_a_lesion():
    logits = torch.randn(6, 18, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(6, 7, dtype=torch.long)
    targets[:3, 6] = 1
    loss = pretrain.descriptor_loss(logits, targets)
    changed = targets.clone()
    changed[3:, :6] = 1
    assert torch.equal(loss, pretrain.descriptor_loss(logits, changed))
    changed[:3, 0] = 3
    assert not torch.equal(loss, pretrain.descriptor_loss(logits, changed))


def test_the_masks_loss_knows_where_the_lesion_is():
    masks = torch.zeros(1, 1, 64, 64)
    masks[..., :32, 16:48] = 255
    right = torch.full((1, 1, 8, 8), -8.0)
    right[..., :4, 2:6] = 8.0
    assert pretrain.mask_loss(right, masks) < 0.01 < 1 < pretrain.mask_loss(right.flip(2), masks)


def test_diverged_pretraining_stops(small, tmp_path, monkeypatch):
    monkeypatch.setattr(
        pretrain, "descriptor_loss", lambda logits, targets: logits.sum() * float("nan")
    )
    with pytest.raises(RuntimeError, match="at step 1. Lower --lr"):
        pretrain.pretrain(64, 64, tmp_path)


def test_augmentation_moves_image_and_mask_together():
    pictures = torch.randint(0, 256, (16, 1, 64, 64), dtype=torch.uint8).repeat(1, 2, 1, 1)
    for seed in range(5):
        torch.manual_seed(seed)
        changed = pretrain.augment(pictures)
        assert changed.shape == pictures.shape and changed.min() >= 0 and changed.max() <= 255
        images, masks = changed.flatten(2).unbind(1)
        together = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(images, masks)]
        assert (
            min(together) > 0.9
        )  # the image's gain, offset and clipping aside, they are still the same picture


def test_the_control_is_no_ultrasound_and_as_rich():
    images, masks, targets = pretrain.simulate_shapes(0, 400)
    assert (
        images.shape == (400, 1, 64, 64)
        and images.dtype == torch.uint8
        and masks.dtype == torch.bool
    )
    assert [len(targets[:, k].unique()) for k in range(7)] == list(pretrain.HEADS.values())
    there = targets[:, 6] == 1
    assert masks[there].any((1, 2)).all() and not masks[~there].any()
    assert 60 < images.float().mean() < 130
    again, *_ = pretrain.simulate_shapes(0, 400)
    assert torch.equal(images, again)


# ---- the kept ablation ------------------------------------------------------------------------------------------------------


def summary_follows(table: dict) -> bool:
    """Every mean and paired difference is that of the repetitions, and the interval is the t interval around it."""
    for row in table["summary"]:
        own, whole = (
            np.array(table["rows"][name][row["measure"]]) for name in (row["source"], "whole")
        )
        half = (
            0.0
            if row["source"] == "whole"
            else stats.t.interval(0.95, len(own) - 1)[1] * stats.sem(own - whole)
        )
        wanted = (
            own.mean(),
            (own - whole).mean(),
            (own - whole).mean() - half,
            (own - whole).mean() + half,
        )
        if not np.allclose(
            [row[k] for k in ("auc", "difference", "low", "high")], wanted, atol=1e-4
        ):
            return False
    return len(table["rows"]) == 8


def test_the_ablations_summary_follows_from_its_rows():
    table = json.loads((ROOT / "data" / "results" / "source_ablation.json").read_text())
    assert summary_follows(table)
    table["rows"]["no speckle"]["probe"][0] += 0.05
    assert not summary_follows(table)
