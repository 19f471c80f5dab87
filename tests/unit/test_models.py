"""Networks: the known counts, what frozen means, groups, and files that are damaged."""

import pytest
import torch
from torch import nn

from medtl_utils.data import DataError
from medtl_utils.models import (
    Normalisation,
    freeze,
    load_model,
    param_groups,
    replace_head,
    save_model,
    source_model,
)


def count(model):
    return sum(p.numel() for p in model.parameters())


def images(n=8):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_parameter_counts():
    assert count(source_model("random")) == 11_689_512
    assert count(replace_head(source_model("random"), 2)) == 11_177_538


def test_replace_head():
    model = replace_head(source_model("random"), 1)
    assert model.fc.out_features == 1
    with pytest.raises(ValueError, match="at least 1"):
        replace_head(model, 0)
    with pytest.raises(ValueError, match="fc"):
        replace_head(nn.Sequential(nn.Linear(2, 2)), 2)


def one_epoch(model):
    """A few optimiser steps in training mode, as an epoch takes them."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images()), torch.arange(8) % 2).backward()
        optimizer.step()


def frozen_is_frozen(make_frozen) -> bool:
    """Every tensor of the shared layers, buffers too, is bit-identical after training."""
    torch.manual_seed(0)
    model = make_frozen(replace_head(source_model("random"), 2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    one_epoch(model)
    return all(
        torch.equal(v, before[k]) for k, v in model.state_dict().items() if not k.startswith("fc")
    ) and not torch.equal(model.fc.weight, before["fc.weight"])


def test_frozen_buffers_are_bit_identical():
    assert frozen_is_frozen(lambda m: freeze(m, through="layer4", batchnorm="frozen"))
    assert frozen_is_frozen(freeze)  # the default: all below the head


def test_the_freezing_test_bites():
    """Planted mistakes: requires_grad=False alone, and BatchNorm left in training mode."""

    def only_requires_grad(model):
        for name, p in model.named_parameters():
            p.requires_grad_(name.startswith("fc"))
        return model

    assert not frozen_is_frozen(only_requires_grad)
    assert not frozen_is_frozen(lambda m: freeze(m, through="layer4", batchnorm="train"))
    assert not frozen_is_frozen(lambda m: freeze(m, through="layer3"))


def trainable(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_freeze_modes():
    model = replace_head(source_model("random"), 2)
    freeze(model, through="layer2", batchnorm="train")
    assert not any(n.startswith(("conv1", "bn1", "layer1", "layer2")) for n in trainable(model))
    assert any(n.startswith("layer3") for n in trainable(model))
    freeze(model, through="layer4", batchnorm="eval")
    assert trainable(model) - {"fc.weight", "fc.bias"} == {
        n for n in dict(model.named_parameters()) if "bn" in n or "downsample.1" in n
    }
    freeze(model, through=None, batchnorm="train")
    assert len(trainable(model)) == 62
    before = model.bn1.running_mean.clone()
    model.train()(images())
    assert not torch.equal(model.bn1.running_mean, before)
    freeze(model, through=None, batchnorm="eval")
    before = model.bn1.running_mean.clone()
    model.train()(images())
    assert torch.equal(model.bn1.running_mean, before)
    for bad in ({"through": "layer5"}, {"batchnorm": "on"}):
        with pytest.raises(ValueError, match="layer4|frozen"):
            freeze(model, **bad)


def test_param_groups():
    model = replace_head(source_model("random"), 2)
    groups = param_groups(model, lr=1e-3, decay=0.5)
    assert [g["name"] for g in groups] == ["stem", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert [g["lr"] for g in groups] == pytest.approx([1e-3 * 0.5**k for k in (5, 4, 3, 2, 1, 0)])
    assert sum(p.numel() for g in groups for p in g["params"]) == count(model)
    freeze(model, through="layer3")
    assert [g["name"] for g in param_groups(model)] == ["layer4", "fc"]
    for bad in ({"lr": 0}, {"decay": 0}, {"decay": 1.5}):
        with pytest.raises(ValueError, match="lr > 0"):
            param_groups(model, **bad)


def test_save_and_load_give_identical_logits(tmp_path):
    torch.manual_seed(1)
    model = replace_head(source_model("random"), 3)
    model.train()(images())
    path = save_model(model, tmp_path / "new" / "m.safetensors", note="x")
    again = load_model(path)
    assert torch.equal(model.eval()(images()), again(images()))
    assert again.normalisation == model.normalisation and not list(path.parent.glob("*.part"))
    half = load_model(save_model(model, tmp_path / "half.safetensors", half=True))
    assert half.conv1.weight.dtype == torch.float32 and torch.equal(
        half.bn1.running_var, model.bn1.running_var
    )
    assert (tmp_path / "half.safetensors").stat().st_size < 24e6


def test_load_refuses_other_files(tmp_path):
    from safetensors.torch import save_file

    for content in (b"", b"hello", b"\xff" * 64):
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(DataError, match="bad.safetensors is not a complete model file"):
            load_model(tmp_path / "bad.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="other.safetensors"):
        load_model(tmp_path / "other.safetensors")


def test_normalisation():
    norm = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    x = norm(torch.full((2, 1, 4, 4), 255, dtype=torch.uint8))
    assert x.shape == (2, 3, 4, 4) and torch.allclose(x, torch.full_like(x, 2.0))
    with pytest.raises(ValueError, match="shape"):
        norm(torch.zeros(2, 2, 4, 4))
