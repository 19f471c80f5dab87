"""The script that makes the source model, run small."""

import json

import pytest
import torch

from medtl_utils import models, pretrain
from medtl_utils.phantom import DESCRIPTORS


def test_pretraining_runs_and_writes_what_source_model_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "VALIDATION_COUNT", 64)
    monkeypatch.setattr("sys.argv", ["pretrain", "--images", "128", "--passes", "256", "--out", str(tmp_path)])
    pretrain.main()
    assert "min left" in capsys.readouterr().out
    model = models.load_model(tmp_path / models.ULTRASOUND_FILE)
    assert model.fc.out_features == 18 and model.heads["values"]["margin"] == list(DESCRIPTORS["margin"])
    written = json.loads((tmp_path / "results" / "pretrain.json").read_text())
    assert written["passes"] == 256 and written["command"].startswith("python -m medtl_utils.pretrain --images 128")


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


def test_diverged_pretraining_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "VALIDATION_COUNT", 64)
    monkeypatch.setattr(pretrain, "descriptor_loss", lambda logits, targets: logits.sum() * float("nan"))
    with pytest.raises(RuntimeError, match="at step 1. Lower --lr"):
        pretrain.pretrain(128, 128, tmp_path)


def test_augmentation_keeps_range_and_shape():
    images = torch.randint(0, 256, (16, 1, 64, 64), dtype=torch.uint8)
    for seed in range(5):
        torch.manual_seed(seed)
        changed = pretrain.augment(images)
        assert changed.shape == images.shape and changed.min() >= 0 and changed.max() <= 255
