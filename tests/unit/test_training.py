"""fine_tune and predict: they learn, repeat, resume bit for bit, and stop early with a reason."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medtl_utils import training
from medtl_utils.data import DataError
from medtl_utils.models import freeze, param_groups, replace_head, source_model
from medtl_utils.training import fine_tune, predict
from tests.conftest import make_split


def fresh(seed=0, n_classes=2):
    torch.manual_seed(seed)
    return replace_head(source_model("random"), n_classes)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def quick(model, task, **more):
    return fine_tune(model, task, **({"epochs": 2, "batch_size": 8, "progress": False} | more))


def test_it_learns(tiny_task):
    model = fresh()
    history = quick(model, tiny_task, epochs=6)
    assert (
        history["train_loss"][-1] < 0.5 * history["train_loss"][0] and history["val_auc"][-1] > 0.95
    )
    assert {len(v) for v in history.values()} == {6}
    assert not model.training and tiny_task.openings == []


def test_same_seed_same_weights_other_seed_other_weights(tiny_task):
    runs = []
    for seed in (0, 0, 1):
        model = fresh()
        quick(model, tiny_task, seed=seed)
        runs.append(model)
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_a_fine_tuned_model_reloads_to_identical_logits(tiny_task, tmp_path):
    from medtl_utils.models import load_model, save_model

    model = fresh()
    quick(model, tiny_task)
    again = load_model(save_model(model, tmp_path / "m.safetensors"))
    x = model.normalisation(tiny_task.val.images)
    assert torch.equal(model(x), again(x))
    channels_last = model.to(
        memory_format=torch.channels_last
    )  # planted: the layout that training leaves behind
    assert not torch.equal(channels_last(x), again(x))


def test_global_random_state_is_left_alone(tiny_task):
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = fresh()
    torch.manual_seed(5)
    quick(model, tiny_task)
    assert torch.equal(torch.rand(3), expected)


def test_resumed_run_is_bit_identical(tiny_task, tmp_path, monkeypatch):
    whole = fresh()
    expected = quick(whole, tiny_task, epochs=3)
    stopped = fresh()
    real, calls = training.predict, []

    def killed_in_the_third_epoch(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(training, "predict", killed_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        quick(stopped, tiny_task, epochs=3, checkpoint=tmp_path / "run.safetensors")
    monkeypatch.setattr(training, "predict", real)
    resumed = fresh()
    assert quick(resumed, tiny_task, epochs=3, checkpoint=tmp_path / "run.safetensors") == expected
    assert same(resumed, whole)
    with pytest.raises(ValueError, match="another run"):
        quick(fresh(), tiny_task, epochs=4, checkpoint=tmp_path / "run.safetensors")
    (tmp_path / "run.safetensors").write_bytes(b"cut off")
    with pytest.raises(DataError, match="run.safetensors cannot be read"):
        quick(fresh(), tiny_task, epochs=3, checkpoint=tmp_path / "run.safetensors")
    assert (tmp_path / "run.safetensors").read_bytes() == b"cut off"


def test_frozen_layers_stay_and_groups_are_used(tiny_task):
    model = freeze(fresh(), through="layer4")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    quick(model, tiny_task, lr=param_groups(model, lr=0.01))
    assert {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])} == {
        "fc.weight",
        "fc.bias",
    }


def test_loss_that_is_not_finite_says_where(tiny_task):
    model = fresh()
    with torch.no_grad():
        model.fc.weight[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="step 1 .epoch 1.*learning rate"):
        quick(model, tiny_task)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"batch_size": 25}, "24 training images are fewer than one batch of 25"),
        ({}, {"batch_size": 1}, "batch_size at least 2"),
        ({}, {"epochs": 0}, "epochs must be at least 1"),
        ({"train": make_split("train")[np.arange(0, 24, 2)]}, {}, "train set holds one class only"),
        ({"val": make_split("val")[np.arange(0, 24, 2)]}, {}, "val set holds one class only"),
        ({"val": make_split("train", 12)}, {}, "12 patient.* are in both train and"),
    ],
)
def test_input_that_cannot_work_is_refused_before_training(tiny_task, change, arguments, message):
    model = fresh()
    before = model.conv1.weight.clone()
    with pytest.raises(ValueError, match=message):
        quick(model, dataclasses.replace(tiny_task, **change), **arguments)
    assert torch.equal(model.conv1.weight, before)


def test_models_that_cannot_work_are_refused(tiny_task):
    with pytest.raises(ValueError, match="head has 3 outputs, the task 2 classes"):
        quick(fresh(n_classes=3), tiny_task)
    with pytest.raises(ValueError, match="Every parameter is frozen"):
        quick(fresh().requires_grad_(False), tiny_task)
    bare = fresh()
    del bare.normalisation
    with pytest.raises(ValueError, match="normalisation"):
        quick(bare, tiny_task)


def test_three_classes_and_one_left_over(capsys):
    classes = ("a", "b", "c")
    from medtl_utils.data import Task

    train, val = (
        make_split("train", 25, classes=classes, positive=None),
        make_split("val", 12, classes=classes, positive=None, seed=1),
    )
    history = fine_tune(
        fresh(n_classes=3),
        Task("three", train, val, "", val),
        epochs=1,
        batch_size=8,
        class_weights=torch.ones(3),
    )
    assert 0 <= history["val_auc"][0] <= 1
    assert "epoch 1/1  train loss" in capsys.readouterr().out


def test_predict(tiny_task):
    model = fresh().train()
    probabilities = predict(model, tiny_task.val)
    assert (
        probabilities.shape == (12, 2) and probabilities.dtype == torch.float32 and model.training
    )
    assert torch.allclose(probabilities.sum(1), torch.ones(12), atol=1e-6)
    assert torch.allclose(predict(model, tiny_task.val, batch_size=5), probabilities, atol=1e-5)
    by_hand = model.eval()(model.normalisation(tiny_task.val.images)).softmax(1)
    assert torch.allclose(probabilities, by_hand.detach(), atol=1e-6)


def test_augmentation_keeps_top_and_bottom():
    """Physics: a bright upper half stays there in every draw; left and right do change places."""
    image = torch.zeros(64, 1, 32, 32, dtype=torch.uint8)
    image[:, :, :8, :16] = 200
    torch.manual_seed(0)
    changed = training.augment(image).float()
    assert changed.shape == image.shape
    assert (changed[:, :, :14].mean((1, 2, 3)) > changed[:, :, 18:].mean((1, 2, 3)) + 10).all()
    left = changed[..., :16].mean((1, 2, 3)) > changed[..., 16:].mean((1, 2, 3))
    assert left.any() and not left.all()


def test_bfloat16_only_where_it_is_native(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert not training.native_bfloat16()
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert training.native_bfloat16()
    with training.autocast(torch.device("cpu")):
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.bfloat16
    assert training.best_device().type in ("cpu", "cuda", "mps")


# ---- very short runs, groups, modes --------------------------------------------------------------


def largest_change(model, task, **more):
    before = copy.deepcopy(model.state_dict())
    quick(model, task, epochs=1, lr=1e-3, **more)
    weights = dict(model.named_parameters())
    return max(float((w.detach() - before[k]).abs().max()) for k, w in weights.items())


@pytest.mark.parametrize("batch_size", [24, 12, 8])  # one, two and three steps
def test_very_short_runs_change_the_weights(tiny_task, batch_size):
    assert largest_change(fresh(), tiny_task, batch_size=batch_size) > 5e-4


def test_the_short_run_test_bites(tiny_task, monkeypatch):
    """Planted mistake: the usual cycle, whose only step is its end."""
    usual = torch.optim.lr_scheduler.OneCycleLR
    monkeypatch.setattr(
        torch.optim.lr_scheduler,
        "OneCycleLR",
        lambda optimizer, peaks, total_steps, **flat: usual(
            optimizer, peaks, total_steps=total_steps
        ),
    )
    assert largest_change(fresh(), tiny_task, batch_size=24) < 1e-6


def test_groups_are_read_not_changed(tiny_task):
    """The schedule ends at a rate of nearly 0; a second run with the same groups starts afresh."""
    model = fresh()
    groups = param_groups(model, lr=1e-3)
    before = [(g["name"], g["lr"], set(g)) for g in groups]
    quick(model, tiny_task, epochs=1, lr=groups)
    assert [(g["name"], g["lr"], set(g)) for g in groups] == before
    replace_head(model, 2)
    with pytest.raises(ValueError, match="param_groups.model. last"):
        quick(model, tiny_task, lr=groups)


def modes(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("training_mode", [True, False])
def test_predict_puts_the_modes_back_after_an_error_too(tiny_task, training_mode):
    model = fresh().train(training_mode)
    model.layer1.train(not training_mode)
    before = modes(model)
    predict(model, tiny_task.val)
    assert modes(model) == before
    broken = SimpleNamespace(images=torch.zeros(2, 2, 8, 8))
    with pytest.raises(ValueError, match="images must have shape"):
        predict(model, broken)
    assert modes(model) == before
    model.eval()  # planted: what an error would leave if nothing were put back
    assert modes(model) != before


def test_the_two_parts_need_a_label_an_image(tiny_task):
    short = SimpleNamespace(images=tiny_task.val.images, labels=tiny_task.val.labels[:5])
    with pytest.raises(ValueError, match="train set needs one label an image.*12 images and 5"):
        quick(fresh(), SimpleNamespace(train=short, val=short))
