"""Networks of all known architectures: saved and loaded, frozen, given rates block by block."""

import copy
import sys
from collections import OrderedDict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torchvision import models as tv

from medtl_utils import architectures, model_files, models
from medtl_utils.architectures import (
    ARCHITECTURES,
    architecture_of,
    block_of,
    head_of,
    make_network,
)
from medtl_utils.data import DataError
from medtl_utils.models import freeze, load_model, param_groups, replace_head, save_model
from tests.unit.test_models import images, one_epoch, trainable


def network(name, n_outputs=3):
    torch.manual_seed(2)
    model = make_network(name, n_outputs)
    model.normalisation = models.GREY
    return model


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_saved_under_its_own_name(tmp_path, name):
    model = replace_head(network(name), 4)
    model.train()(images())
    freeze(model, through=None, batchnorm="eval")  # a way of training, no other network
    path = save_model(model, tmp_path / "m.safetensors")
    assert architecture_of(model) == name
    assert safe_open(path, "pt").metadata()["architecture"] == name
    again = load_model(path)
    assert type(again) is type(model) and head_of(again)[1].out_features == 4
    assert torch.equal(model.eval()(images()), again(images()))
    half = load_model(save_model(model, tmp_path / "half.safetensors", half=True))
    assert torch.allclose(half(images()), again(images()), atol=0.05)


def test_the_architecture_test_bites(tmp_path, monkeypatch):
    """Planted mistake: every network is called resnet18."""
    monkeypatch.setattr(model_files, "architecture_of", lambda model: "resnet18")
    path = save_model(network("resnet34"), tmp_path / "m.safetensors")
    with pytest.raises(DataError, match="m.safetensors is not a complete model file"):
        load_model(path)


def grey_stem():
    model = network("resnet18")
    model.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return model


def finer():
    """The same tensors, another network: a stride that no tensor's shape shows."""
    model = network("resnet18")
    model.conv1.stride = (1, 1)
    return model


def deep_head():
    model = network("resnet18")
    model.fc = nn.Sequential(nn.Linear(512, 8), nn.Linear(8, 2))
    return model


def extra_tensor():
    model = network("resnet18")
    model.register_buffer("count", torch.zeros(1))
    return model


UNKNOWN = {
    "Sequential": lambda: nn.Sequential(nn.Linear(2, 2)),
    "resnet101": lambda: tv.resnet101(num_classes=2),
    "grey stem": grey_stem,
    "stride": finer,
    "deep head": deep_head,
    "extra tensor": extra_tensor,
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_unknown_networks_are_refused_at_saving(tmp_path, what):
    model = UNKNOWN[what]()
    model.normalisation = models.GREY
    with pytest.raises(ValueError, match="can be saved: resnet18, resnet34, .*efficientnet_lite0"):
        save_model(model, tmp_path / "new" / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_saving_needs_a_normalisation_that_can_be_written(tmp_path):
    for wrong in (None, lambda images: images):
        model = network("resnet18")
        model.normalisation = wrong
        with pytest.raises(ValueError, match="must be a Normalisation"):
            save_model(model, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_inactive_changes_do_not_make_another_network():
    model = network("resnet18")
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    model.avgpool = nn.Sequential(model.avgpool, nn.Dropout(0.2))
    with pytest.raises(ValueError):  # a new place in the tree is a change, dropout itself is none
        architecture_of(model)
    model.avgpool = model.avgpool[0]
    assert architecture_of(model) == "resnet18"


def test_asking_for_the_architecture_draws_no_random_number():
    model = network("resnet50")
    architectures._shape_of.cache_clear()
    before = torch.get_rng_state()
    architecture_of(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_of_timm_without_timm_names_the_install_line(tmp_path, monkeypatch):
    path = save_model(network("tf_efficientnet_lite0"), tmp_path / "m.safetensors")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ImportError, match="needs the package timm. Run: pip install .medtl-utils.imagenet."
    ):
        load_model(path)


def test_loading_an_architecture_that_is_not_known(tmp_path):
    path = save_model(network("resnet18"), tmp_path / "m.safetensors")
    tensors = {k: v.contiguous() for k, v in network("resnet18").state_dict().items()}
    save_file(tensors, path, safe_open(path, "pt").metadata() | {"architecture": "resnet999"})
    with pytest.raises(DataError, match="Unknown architecture 'resnet999'"):
        load_model(path)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_blocks_hold_every_parameter_once(name):
    model = network(name)
    rates = {g["name"]: g["lr"] for g in param_groups(model, lr=1.0, decay=0.5)}
    names = [name for name, *_ in ARCHITECTURES[name][1]]
    assert list(rates) == names and list(rates.values()) == [
        0.5**k for k in range(len(names) - 1, -1, -1)
    ]
    held = [p for g in param_groups(model) for p in g["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(model.parameters()))
    assert names[-1] == head_of(model)[0]
    assert all(block_of(name) in names for name, _ in model.named_parameters())
    first = next(name for name, _ in model.named_parameters())
    assert block_of(first) == "stem"  # the parameters come from the image to the head


FEATURES = {
    "densenet121": "denseblock4",
    "tf_efficientnet_lite0": "conv_head",
    "resnet50": "layer4",
}


def held_still(name, through, batchnorm="frozen"):
    """Whether every tensor of the shared layers, buffers too, stays bit for bit in training."""
    model = replace_head(network(name), 2)
    head = head_of(model)[0]
    freeze(model, through=through, batchnorm=batchnorm)
    before = copy.deepcopy(model.state_dict())
    one_epoch(model)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    return moved == {f"{head}.weight", f"{head}.bias"}


@pytest.mark.parametrize("name", FEATURES)
def test_frozen_is_frozen_in_other_networks(name):
    assert held_still(name, FEATURES[name])
    assert not held_still(name, FEATURES[name], batchnorm="train")  # planted: statistics move
    assert not held_still(name, "stem")  # planted: too little is frozen
    with pytest.raises(ValueError, match=f"Choose one of: stem, .*{FEATURES[name]}, last, or None"):
        freeze(network(name), through="block77")


@pytest.mark.parametrize("name", FEATURES)
def test_by_default_all_below_the_head_is_frozen(name):
    model = freeze(network(name))
    head = head_of(model)[0]
    assert trainable(model) == {f"{head}.weight", f"{head}.bias"}
    assert trainable(freeze(network(name), through="stem")) > trainable(model)  # planted: less
    if name != "resnet50":  # the name of a ResNet's block is never taken for another one
        with pytest.raises(ValueError, match="Cannot freeze through 'layer4'"):
            freeze(network(name), through="layer4")


def sequential():
    layers = OrderedDict(features=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "head": nn.Linear(4, 2)}
    return nn.Sequential(layers)


def test_an_unknown_network_never_gets_one_rate_in_silence():
    model = sequential()
    with pytest.raises(ValueError, match=r'e\.g\. blocks=\(\("features", "features"\), \("head"'):
        param_groups(model)
    with pytest.raises(ValueError, match="blocks of this Sequential are not known"):
        freeze(model, through="layer1")
    freeze(model, through=None, batchnorm="eval")  # needs no blocks
    blocks = (("stem", "features.0"), ("body", "features.1"), ("head", "head"))
    groups = param_groups(model, lr=1.0, decay=0.1, blocks=blocks)
    assert [(g["name"], len(g["params"])) for g in groups] == [
        ("stem", 2),
        ("body", 2),
        ("head", 2),
    ]
    assert [g["lr"] for g in groups] == pytest.approx([0.01, 0.1, 1.0])
    assert trainable(freeze(model, blocks=blocks)) == {"head.weight", "head.bias"}
    freeze(model, through="stem", blocks=blocks)
    assert trainable(model) == {"features.1.weight", "features.1.bias", "head.weight", "head.bias"}
    for wrong in (blocks[1:], (*blocks, ("more", "features.2"))):
        with pytest.raises(ValueError, match="features.0.weight.*Mend|features.2. Mend"):
            param_groups(model, blocks=wrong)
    with pytest.raises(ValueError, match="in no known block"):
        block_of("trunk.conv1.weight")


def test_one_rate_is_what_names_of_resnet_alone_would_give():
    """The planted mistake that the tests above must catch: the part before the first dot."""
    first = {name.split(".")[0] for name, _ in network("densenet121").named_parameters()}
    assert first == {"features", "classifier"}
