"""fine_tune and predict with any head, loss, augmentation, network and input."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medtl_utils.architectures import make_network
from medtl_utils.models import freeze, param_groups, replace_head, source_model
from medtl_utils.training import predict
from tests.unit.test_training import fresh, quick, same


def numbers(task):
    """The same images with a number to predict, their brightness; no classes, no patients."""
    parts = {
        name: SimpleNamespace(
            images=split.images, labels=split.images.float().mean((1, 2, 3)) / 100
        )
        for name, split in (("train", task.train), ("val", task.val))
    }
    return SimpleNamespace(**parts)


def squared(outputs, labels):
    return F.mse_loss(outputs[:, 0], labels)


def test_regression_with_one_output(tiny_task):
    torch.manual_seed(0)
    model, task = replace_head(source_model("ultrasound"), 1), numbers(tiny_task)
    freeze(model, through=None, batchnorm="eval")
    history = quick(model, task, epochs=6, loss=squared, augment=None)
    assert set(history) == {"train_loss", "val_loss"}  # numbers have no AUC
    values = predict(model, task.val)
    assert values.shape == (12, 1) and len(values.unique()) > 6  # no softmax of one number
    assert history["val_loss"][-1] == pytest.approx(float(squared(values, task.val.labels)))
    assert history["val_loss"][-1] < 0.5 * float(task.val.labels.var())
    whole_numbers = SimpleNamespace(train=tiny_task.train, val=tiny_task.val)
    binary = lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.float())
    assert "val_auc" not in quick(fresh(n_classes=1), whole_numbers, epochs=1, loss=binary)


def test_another_loss_for_classes(tiny_task):
    """The loss is used in training and validation; two outputs for two classes have an AUC."""
    smooth = nn.CrossEntropyLoss(label_smoothing=0.2)
    model, usual = fresh(), fresh()
    history = quick(model, tiny_task, loss=smooth)
    quick(usual, tiny_task)
    assert not same(model, usual)
    logits = predict(model, tiny_task.val, raw=True)
    assert history["val_loss"][-1] == pytest.approx(float(smooth(logits, tiny_task.val.labels)))
    assert set(history) == {"train_loss", "val_loss", "val_auc"}
    same_loss = fresh()
    quick(same_loss, tiny_task, loss=F.cross_entropy)
    assert same(same_loss, usual)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (F.mse_loss, r"compares outputs \(8, 1\) with labels \(8,\).*outputs\[:, 0\]"),
        (lambda z, y: (z[:, 0] - y) ** 2, r"must return one number as a tensor; got \(8,\)"),
        (lambda z, y: 1.0, "must return one number as a tensor; got float"),
        (None, "labels are not whole numbers.*Give a loss"),
    ],
)
def test_losses_that_cannot_work_are_refused(tiny_task, loss, message):
    model = fresh(n_classes=1)
    before = model.conv1.weight.clone()
    with pytest.raises(ValueError, match=message):
        quick(model, numbers(tiny_task), loss=loss)
    assert torch.equal(model.conv1.weight, before)


def test_class_weights_beside_a_loss_are_refused(tiny_task):
    with pytest.raises(ValueError, match="class_weights belong to the default loss"):
        quick(fresh(), tiny_task, loss=F.cross_entropy, class_weights=torch.ones(2))


def test_any_augmentation(tiny_task):
    seen = []

    def noted(images):
        seen.append((images.dtype, tuple(images.shape)))
        return images

    models = [fresh() for _ in range(4)]
    quick(models[0], tiny_task, augment=noted)
    quick(models[1], tiny_task, augment=None)
    quick(models[2], tiny_task, augmented=False)
    quick(models[3], tiny_task, augment=lambda images: 255 - images)
    assert set(seen) == {(torch.uint8, (8, 1, 32, 32))} and len(seen) == 6
    assert same(models[0], models[1]) and same(models[1], models[2])
    assert not same(models[2], models[3])
    for wrong in (lambda images: images / 255, lambda images: images[:3]):
        with pytest.raises(ValueError, match="as many images of the same dtype"):
            quick(fresh(), tiny_task, augment=wrong)


class Waves(nn.Module):
    """A 1-D network: (N, 1, T) -> two logits."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 8, 5)
        self.bn = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 2)

    def normalisation(self, signals):
        return signals / 2

    def forward(self, x):
        return self.head(self.bn(self.conv(x)).relu().mean(2))


def waves(n, seed):
    """Slow and fast sine waves in noise, torch float32 (N, 1, 64)."""
    torch.manual_seed(seed)
    labels = torch.arange(n) % 2
    time = torch.arange(64) / 64
    angle = 6.28 * (time * (2 + 8 * labels[:, None]) + torch.rand(n, 1))
    return SimpleNamespace(images=(angle.sin() + 0.3 * torch.randn(n, 64))[:, None], labels=labels)


def test_a_network_for_signals(tmp_path):
    torch.manual_seed(0)
    model, task = Waves(), SimpleNamespace(train=waves(48, 0), val=waves(24, 1))
    start = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"default augmentation is for uint8 .*augment=None"):
        quick(model, task)
    more = {"epochs": 8, "lr": 0.02, "augment": None}
    history = quick(model, task, checkpoint=tmp_path / "signals.safetensors", **more)
    assert history["val_auc"][-1] > 0.95
    assert torch.equal(predict(model, task.val).argmax(1), task.val.labels)
    assert quick(start, task, checkpoint=tmp_path / "signals.safetensors", **more) == history
    assert same(model, start)


@pytest.mark.parametrize("name", ["densenet121", "tf_efficientnet_lite0", "resnet34"])
def test_other_networks_are_trained_whole(tiny_task, name):
    torch.manual_seed(0)
    model = replace_head(make_network(name, 5), 2)
    model.normalisation = source_model("random").normalisation
    before = copy.deepcopy(model.state_dict())
    history = quick(model, tiny_task, epochs=1, lr=param_groups(model, lr=1e-3, decay=0.9))
    assert all(0 <= values[0] < 20 for values in history.values()) and len(history) == 3
    assert all(not torch.equal(w, before[k]) for k, w in model.named_parameters() if w.ndim > 1)
    assert not model.training and all(p.is_contiguous() for p in model.parameters())


def test_a_head_that_is_not_known_is_refused(tiny_task):
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.normalisation = source_model("random").normalisation
    with pytest.raises(ValueError, match="`fc`, `classifier`, `head`"):
        quick(model, tiny_task)
    history = quick(model, tiny_task, loss=F.cross_entropy)  # with a loss the head is your own
    assert set(history) == {"train_loss", "val_loss", "val_auc"}
