"""Notebook 10: the graph that goes to the clinic, in float32 and in int8, without PyTorch."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import medtl_utils as mt
from medtl_utils.models import GREY
from studies import small_networks
from tests.chapters.notebook_code import function, namespace

N = namespace("10")


def pictures(n: int = 8, size: int = 64) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 1, size, size), dtype=torch.uint8, generator=g)


# ---- the graph -----------------------------------------------------------------------------------


def small_net() -> nn.Module:
    """Two convolutions of ResNet's kind: quick to export."""
    torch.manual_seed(4)
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)).eval()
    model.normalisation = GREY
    return model


def exported(deployed, folder: Path) -> Path:
    file = folder / "net.onnx"
    how = {"input_names": ["images"], "dynamic_shapes": ({0: torch.export.Dim("n")},)}
    net = deployed(small_net()).eval()
    torch.onnx.export(net, (pictures(2, 32),), file, **how, verbose=False)
    return file


def graph_equals_torch(file: Path) -> bool:
    run = onnxruntime.InferenceSession(file)
    x = pictures(7, 32)
    (got,) = run.run(None, {"images": x.numpy()})
    want = mt.predict(small_net(), SimpleNamespace(images=x)).numpy()
    return run.get_inputs()[0].type == "tensor(uint8)" and np.abs(got - want).max() < 1e-4


def test_the_graph_takes_pixels_and_gives_torchs_probabilities(tmp_path):
    assert graph_equals_torch(exported(N["Deployed"], tmp_path))
    copied = namespace("10", copy=True)["Deployed"]
    assert graph_equals_torch(exported(copied, tmp_path))
    assert graph_equals_torch(small_networks.export(small_net(), pictures(2, 32), tmp_path / "a"))


@pytest.mark.parametrize(
    "change",
    [
        ("self.model.normalisation(images)", "(images.float() / 255).expand(-1, 3, -1, -1)"),
        (".softmax(1)", ".softmax(0)"),
    ],
)
def test_the_graph_test_bites(change, tmp_path):
    assert not graph_equals_torch(exported(function("10", "Deployed", change), tmp_path))


def int8_convolutions(file: Path, folder: Path) -> int:
    """How many run in int8, in the graph that the engine makes of the file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "seen.onnx"), 3
    onnxruntime.InferenceSession(file, options)
    nodes = onnx.load(folder / "seen.onnx").graph.node
    return sum(node.op_type == "QLinearConv" for node in nodes)


def test_quantised_nodes_exist(tmp_path):
    graph = small_networks.export(small_net(), pictures(2, 32), tmp_path / "float.onnx")
    small = small_networks.quantised(graph, pictures(32, 32), tmp_path / "int8.onnx")
    assert int8_convolutions(graph, tmp_path) == 0  # the count bites: a float graph has none
    assert int8_convolutions(small, tmp_path) == 2
    x = pictures(7, 32)
    apart = small_networks.answers(small, x) - small_networks.answers(graph, x)
    assert 0 < np.abs(apart).max() < 0.05


def said_by(code: str, folder: Path) -> str:
    """What the clinic's process prints; its answers must be torch's."""
    graph = small_networks.export(small_net(), pictures(2, 32), folder / "net.onnx")
    np.save(folder / "x.npy", pictures(3, 32).numpy())
    command = [sys.executable, "-c", code, graph, folder / "x.npy", folder / "y.npy"]
    said = subprocess.check_output(command, text=True)
    want = mt.predict(small_net(), SimpleNamespace(images=pictures(3, 32)))
    assert np.abs(np.load(folder / "y.npy", allow_pickle=False) - want.numpy()).max() < 1e-4
    return said


def test_the_clinic_has_no_torch(tmp_path):
    assert "without torch: True" in said_by(N["CLINIC"], tmp_path)
    bites = N["CLINIC"].replace("import sys,", "import torch, sys,")
    assert "without torch: False" in said_by(bites, tmp_path)
