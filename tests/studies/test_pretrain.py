"""The script that makes the source models, run small: what it writes and learns, and kills."""

import hashlib
import json

import pytest
import torch

from medtl_utils import models, phantom
from medtl_utils.phantom import DESCRIPTORS
from studies import pretrain


@pytest.fixture
def small(monkeypatch):
    """Chunks of 32 pictures, two in memory, two steps of 16 a round."""
    sizes = {"VALIDATION_COUNT": 32, "CHUNK": 32, "POOL": 2, "BATCH": 16, "STEPS": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(pretrain, name, value)


def weights(folder, file=models.ULTRASOUND_FILE):
    tensors = models.load_model(folder / file).state_dict().values()
    return torch.cat([tensor.flatten().float() for tensor in tensors])


def test_pretraining_runs_and_writes_what_source_model_reads(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["pretrain", "--images", "96", "--passes", "96", "--out", str(tmp_path)]
    )
    pretrain.main()
    assert "min left" in capsys.readouterr().out
    model = models.load_model(tmp_path / models.ULTRASOUND_FILE)
    assert model.fc.out_features == 23
    assert model.heads["values"]["margin"] == list(DESCRIPTORS["margin"])
    assert not any(name.startswith("mask") for name in model.state_dict())
    written = json.loads((tmp_path / "results" / "pretrain.json").read_text())
    command = "python -m studies.pretrain --task ultrasound --images 96 --passes 96 --seed 0"
    assert written["passes"] == 96 and written["command"] == command
    assert not list((tmp_path / "cache").iterdir())  # the checkpoint has done its work
    digest = hashlib.sha256((tmp_path / models.ULTRASOUND_FILE).read_bytes()).hexdigest()
    card = (tmp_path / "results" / "pretrain.md").read_text()
    assert digest in card and card == pretrain.card(written, digest)


def test_another_seed_has_its_own_files(small, tmp_path):
    """Three trainings of one source lie side by side; none replaces the one with seed 0."""
    for seed in (0, 1):
        pretrain.pretrain(64, 32, tmp_path, task="shapes", seed=seed)
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    plain = {"shapes_resnet18.safetensors", "pretrain_shapes.json", "pretrain_shapes.md"}
    assert written == plain | {pretrain.file_name(name, 1) for name in plain}
    assert "pretrain_shapes_seed1.json" in written
    other = "shapes_resnet18_seed1.safetensors"
    same = torch.equal(weights(tmp_path, "shapes_resnet18.safetensors"), weights(tmp_path, other))
    assert not same and other in (tmp_path / "results" / "pretrain_shapes_seed1.md").read_text()


class Killed(Exception):
    pass


def killed_and_resumed(tmp_path, monkeypatch, **mutant) -> bool:
    """Whether a run killed in its third round and called again ends in the same bits."""
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

    original = pretrain.resume
    assert not killed_and_resumed(tmp_path, monkeypatch, resume=forgetful)


def test_a_checkpoint_of_another_simulator_is_refused(small, tmp_path, monkeypatch):
    """Two halves from two simulators would be a source that no command makes again."""

    def killed(*arguments):
        raise Killed

    monkeypatch.setattr(pretrain, "_print_progress", killed)
    with pytest.raises(Killed):
        pretrain.pretrain(96, 128, tmp_path)
    original = phantom.draw_view
    monkeypatch.setattr(phantom, "draw_view", lambda *arguments: original(*arguments))
    with pytest.raises(ValueError, match="pictures"):
        pretrain.pretrain(96, 128, tmp_path)


def test_the_pictures_are_a_stream(small, tmp_path, monkeypatch):
    """Every picture is made once, chunk by chunk, as training goes on."""
    made = []

    def noted(start, count, device):
        made.append((start, count))
        return pretrain.simulate_shapes(start, count)

    monkeypatch.setitem(pretrain.TASKS, "shapes", (noted, "s.safetensors", "x"))
    pretrain.pretrain(150, 128, tmp_path, task="shapes")
    training = [m for m in made if m[0] < pretrain.VALIDATION_START]
    assert training == [(0, 32), (32, 32), (64, 32), (96, 32), (128, 22)]


def test_descriptors_count_only_where_there_is_a_lesion():
    logits = torch.randn(6, 23, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(6, 8, dtype=torch.long)
    targets[:3, 7] = 1
    loss = pretrain.descriptor_loss(logits, targets)
    changed = targets.clone()
    changed[3:, :7] = 1
    assert torch.equal(loss, pretrain.descriptor_loss(logits, changed))
    changed[:3, 0] = 2
    assert not torch.equal(loss, pretrain.descriptor_loss(logits, changed))


def test_the_masks_loss_knows_where_the_lesion_is():
    masks = torch.zeros(1, 1, 64, 64)
    masks[..., :32, 16:48] = 255
    right = torch.full((1, 1, 8, 8), -8.0)
    right[..., :4, 2:6] = 8.0
    assert pretrain.mask_loss(right, masks) < 0.01 < 1 < pretrain.mask_loss(right.flip(2), masks)


def test_diverged_pretraining_stops(small, tmp_path, monkeypatch):
    nan = lambda logits, targets: logits.sum() * float("nan")
    monkeypatch.setattr(pretrain, "descriptor_loss", nan)
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
        # the image's gain, offset and clipping aside, they are still the same picture
        assert min(together) > 0.9


def test_the_control_is_no_ultrasound_and_as_rich():
    images, masks, targets = pretrain.simulate_shapes(0, 400)
    assert images.shape == (400, 1, 64, 64) and images.dtype == torch.uint8
    assert masks.dtype == torch.bool
    assert [len(targets[:, k].unique()) for k in range(8)] == list(pretrain.HEADS.values())
    there = targets[:, 7] == 1
    assert masks[there].any((1, 2)).all() and not masks[~there].any()
    assert 60 < images.float().mean() < 130
    again, *_ = pretrain.simulate_shapes(0, 400)
    assert torch.equal(images, again)
