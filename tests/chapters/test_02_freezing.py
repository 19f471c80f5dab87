"""Notebook 02 and its deep dive: freeze against the helper's, feature maps, the interval."""

import copy

import numpy as np
import pytest
import torch

import medtl_utils as mt
from medtl_utils.models import BLOCKS
from tests.chapters.notebook_code import function
from tests.conftest import make_split


def after_an_epoch(freeze, through, model, tiny_task) -> tuple[list[bool], dict[str, torch.Tensor]]:
    """Which parameters learn, and all tensors after an epoch, with `freeze` applied."""
    torch.manual_seed(1)
    model = mt.replace_head(copy.deepcopy(model), 2)
    freeze(model, through)
    torch.manual_seed(2)
    function("02", "train_one_epoch")(model, tiny_task.train)
    return [p.requires_grad for p in model.parameters()], model.state_dict()


def buffers_identical(freeze, model, tiny_task) -> bool:
    """After an epoch with all but the head frozen, the trunk's tensors have the bits they had."""
    _, after = after_an_epoch(freeze, "layer4", model, tiny_task)
    before = {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}
    return all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_frozen_buffers_are_bit_identical(varied_resnet, tiny_task):
    assert buffers_identical(function("02", "freeze"), varied_resnet, tiny_task)
    assert buffers_identical(mt.freeze, varied_resnet, tiny_task)


def requires_grad_only(model, through):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))


def test_the_buffer_test_bites(varied_resnet, tiny_task):
    assert not buffers_identical(requires_grad_only, varied_resnet, tiny_task)
    mistake = ("layer.register_forward_pre_hook(hold_still)", "layer.eval()")
    assert not buffers_identical(function("02", "freeze", mistake), varied_resnet, tiny_task)


def equals_helper(freeze, model, tiny_task) -> bool:
    for through in BLOCKS:
        flags, after = after_an_epoch(freeze, through, model, tiny_task)
        wanted_flags, wanted = after_an_epoch(mt.freeze, through, model, tiny_task)
        same = all(torch.allclose(after[k], wanted[k], atol=1e-6) for k in wanted)
        if flags != wanted_flags or not same:
            return False
    return True


def test_the_notebooks_freeze_is_the_helpers(varied_resnet, tiny_task):
    assert equals_helper(function("02", "freeze"), varied_resnet, tiny_task)


@pytest.mark.parametrize(
    "mistake",
    [("BLOCKS.index(through) + 1", "BLOCKS.index(through)"), ("('conv1', 'bn1')", "('conv1',)")],
)
def test_the_freeze_test_bites(mistake, varied_resnet, tiny_task):
    assert not equals_helper(function("02", "freeze", mistake), varied_resnet, tiny_task)


# ---- feature maps -------------------------------------------------------------------------------


def maps_agree(maps_of, model) -> bool:
    """The hooks see what running the layers one by one gives, and are gone afterwards."""
    images, net = make_split(n=3, size=64).images, copy.deepcopy(model).eval()
    found, agree = maps_of(model, images), True
    with torch.no_grad():
        x = net.maxpool(net.relu(net.bn1(net.conv1(net.normalisation(images)))))
        for block in BLOCKS:
            x = x if block == "stem" else getattr(net, block)(x)
            agree &= found[block].shape == x.shape and torch.allclose(found[block], x, atol=1e-4)
    return bool(agree) and not any(m._forward_hooks for m in model.modules())


def test_feature_maps_are_the_layers_outputs(varied_resnet):
    assert maps_agree(function("02_deep", "maps_of"), varied_resnet)


@pytest.mark.parametrize(
    "mistake",
    [
        ("handle.remove()", "pass"),
        ("model.eval()(", "model.train()("),
        ("model.maxpool", "model.relu"),
    ],
    ids=["hooks left behind", "training mode", "the stem before its pooling"],
)
def test_the_map_test_bites(mistake, varied_resnet):
    assert not maps_agree(function("02_deep", "maps_of", mistake), copy.deepcopy(varied_resnet))


# ---- the interval -------------------------------------------------------------------------------


def interval_agrees(interval) -> bool:
    """With the standard error of a ratio over groups (delta method), within 20 %."""
    rng = np.random.default_rng(3)
    size = rng.integers(1, 5, 150)
    patients = np.repeat(np.arange(150), size).astype(str)
    values = np.repeat(rng.normal(2, 1, 150), size) + rng.normal(0, 0.3, len(patients))
    value, low, high = interval(values, patients)
    total, mean = np.array([values[patients == str(p)].sum() for p in range(150)]), values.mean()
    se = np.sqrt(150 / 149 * ((total - mean * size) ** 2).sum()) / size.sum()
    return abs(value - mean) < 1e-9 and abs((high - low) / 2 - 1.96 * se) < 0.2 * 1.96 * se


def test_interval_over_groups():
    assert interval_agrees(function("02", "interval"))


def test_the_interval_test_bites():
    """Planted: images drawn one by one, as if they were independent."""
    right = function("02", "interval")
    assert not interval_agrees(lambda values, groups: right(values, np.arange(len(groups))))
