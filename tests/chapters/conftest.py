"""What several chapters' tests share."""

import pytest
import torch
from torch import nn

import medtl_utils as mt


@pytest.fixture(scope="session")
def varied_resnet() -> nn.Module:
    """A random ResNet-18 whose BatchNorm layers do not hold the trivial 0 and 1."""
    torch.manual_seed(0)
    model = mt.source_model("random")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (layer.bias.data, layer.running_mean):
                tensor.normal_(0, 0.2)
    return model.eval()
