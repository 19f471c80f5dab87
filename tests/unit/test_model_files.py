"""Model files of the reader: plain state dicts, what they must say, and files that are wrong."""

import json
import sys
import warnings

import pytest
import torch
from safetensors.torch import save_file

from medtl_utils import model_files
from medtl_utils.architectures import (
    ARCHITECTURES,
    architecture_of,
    architecture_of_tensors,
    head_of,
    make_network,
)
from medtl_utils.data import DataError
from medtl_utils.models import Normalisation, replace_head, save_model, source_model
from tests.unit.test_models import images

OWN = {"normalisation": json.dumps({"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]})}


def plain(name, path, metadata=None, n_outputs=3, **changes):
    """A state dict as safetensors without our metadata; returns its network. None: no tensor."""
    torch.manual_seed(4)
    model = make_network(name, n_outputs).eval()
    state = {k: v for k, v in (model.state_dict() | changes).items() if v is not None}
    save_file(state, path, metadata)
    return model


def test_a_file_of_save_model_is_a_source(tmp_path, monkeypatch):
    model = replace_head(source_model("random"), 5).eval()
    path = save_model(model, tmp_path / "own files" / "größe.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for text in (path, "own files/größe.safetensors", "~/own files/größe.safetensors"):
        again = source_model(f"file:{text}")
        assert torch.equal(again(images()), model(images())) and not again.training
        assert again.normalisation == model.normalisation
    assert save_model(model, "~/home.safetensors") == tmp_path / "home.safetensors"
    assert (tmp_path / "home.safetensors").is_file()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:.*names no architecture")
def test_a_plain_state_dict_is_a_source(tmp_path, name):
    """The network is found by its tensors, the head's size too; "pt" is what timm's files say."""
    path = tmp_path / "plain.safetensors"
    model = plain(name, path, OWN | {"format": "pt"})
    found = source_model(f"file:{path}")
    assert architecture_of(found) == name and head_of(found)[1].out_features == 3
    assert torch.equal(found(images()), model(images())) and not found.training
    assert found.normalisation == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 3)
    state = model.state_dict()
    without = {k: v.half() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    save_file(without, path, OWN)  # older files have no counters; some are stored as float16
    assert torch.allclose(source_model(f"file:{path}")(images()), model(images()), atol=0.05)


def test_finding_the_network_bites(tmp_path, monkeypatch):
    """Planted mistake: names alone are compared, which are the same in ResNet-18's first blocks."""
    path = tmp_path / "plain.safetensors"
    plain("resnet34", path, OWN)
    monkeypatch.setattr(model_files, "architecture_of_tensors", lambda tensors: "resnet18")
    with pytest.raises(DataError, match="plain.safetensors is not a complete model file"):
        source_model(f"file:{path}")


def test_a_file_that_two_networks_fit_says_so(tmp_path):
    path, name = tmp_path / "plain.safetensors", "tf_efficientnet_lite0"
    plain(name, path, OWN)
    with pytest.warns(UserWarning, match=f"plain.safetensors names no architecture.*{name}"):
        source_model(f"file:{path}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain(name, path, OWN | {"architecture": name})
        source_model(f"file:{path}")
        plain("resnet18", path, OWN)
        source_model(f"file:{path}")


def test_a_file_without_normalisation_tells_how_to_add_it(tmp_path):
    """The printed lines are run: they make a file that works, with the same weights."""
    path = tmp_path / "plain.safetensors"
    model = plain("resnet18", path, n_outputs=7)
    with pytest.raises(DataError, match="how its images are normalised, and nothing is") as caught:
        source_model(f"file:{path}")
    lines = str(caught.value).split("\n")[1:]
    exec("\n".join(lines), {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)})
    again = source_model(f"file:{tmp_path / 'plain_with_normalisation.safetensors'}")
    assert torch.equal(again(images()), model(images()))
    assert again.normalisation.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    "text",
    ["", "imagenet", "[]", "{}", '{"mean": 0.5, "std": 0.5}', '{"mean": [0.5], "std": [0]}']
    + ['{"mean": [0.5, 0.5], "std": [1, 1, 1]}', '{"mean": [NaN], "std": [1]}'],
)
def test_a_normalisation_that_cannot_work_is_refused(tmp_path, text):
    path = tmp_path / "plain.safetensors"
    plain("resnet18", path, {"normalisation": text})
    with pytest.raises(DataError, match='plain.safetensors.*"normalisation" must be JSON'):
        source_model(f"file:{path}")


WRONG = {
    "no head": (
        {"fc.weight": None, "fc.bias": None},
        "resnet18 is nearest, but fc.weight, fc.bias",
    ),
    "a tensor too few": ({"layer2.0.conv1.weight": None}, "layer2.0.conv1.weight differ"),
    "a tensor too many": ({"layer2.7.conv1.weight": torch.zeros(2)}, "layer2.7.conv1.weight diff"),
    "grey stem": ({"conv1.weight": torch.zeros(64, 1, 7, 7)}, "but conv1.weight differ"),
    "a prefix": ({"module.conv1.weight": torch.zeros(2)}, "without a prefix"),
    "head of other size": ({"fc.weight": torch.zeros(3, 99)}, r"[\s\S]*size mismatch for fc"),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_tensors_are_refused_by_name(tmp_path, what):
    changes, message = WRONG[what]
    path = tmp_path / "plain.safetensors"
    plain("resnet18", path, OWN, **changes)
    with pytest.raises(DataError, match=f"plain.safetensors is not a complete.*{message}"):
        source_model(f"file:{path}")


def test_missing_cut_off_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "plain.safetensors"
    for wrong in (path, tmp_path):  # nothing there; a folder
        with pytest.raises(DataError, match=f"The model file {wrong} is missing. Check the path"):
            source_model(f"file:{wrong}")
    plain("resnet18", path, OWN)
    content = path.read_bytes()
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "pickle.pth")
    pickle = (tmp_path / "pickle.pth").read_bytes()
    for wrong in (content[:-1], content[:1000], content[:5], b"", pickle):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=r"plain.safetensors is not a .* \(.pt, .pth\) are not"):
            source_model(f"file:{path}")
    save_file({}, path)
    with pytest.raises(DataError, match="the first is 'none'"):
        source_model(f"file:{path}")


def test_a_plain_file_of_lite0_without_timm_names_the_install_line(tmp_path, monkeypatch):
    from medtl_utils.architectures import _shape_of

    path = tmp_path / "plain.safetensors"
    plain("tf_efficientnet_lite0", path, OWN)
    _shape_of.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="needs the package timm. Run: pip install"):
        source_model(f"file:{path}")
    plain("resnet18", path, OWN)  # needs no timm
    assert architecture_of_tensors(source_model(f"file:{path}").state_dict()) == "resnet18"
