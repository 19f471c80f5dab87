"""Notebook 02 and its deep dive: counts and parts of a ResNet against other sources."""

import numpy as np
import pytest
import torch
from scipy import signal
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

import medtl_utils as mt
from tests.chapters.notebook_code import function


def size_by_formula(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels * layer.in_channels * layer.kernel_size[0] ** 2
    if isinstance(layer, nn.BatchNorm2d):
        return 2 * layer.num_features
    if isinstance(layer, nn.Linear):
        return (layer.in_features + 1) * layer.out_features
    return 0


def counts_agree(count) -> bool:
    """With torchvision's published number, a sum over the layers' sizes, and the chapter's two."""
    model = resnet18()
    by_formula = sum(size_by_formula(layer) for layer in model.modules())
    published = ResNet18_Weights.IMAGENET1K_V1.meta["num_params"]
    whole = count(model) == published == by_formula == 11_689_512
    return whole and count(mt.replace_head(model, 2)) == 11_177_538


def test_parameter_counts():
    assert counts_agree(function("02", "count"))


def test_the_count_test_bites():
    """Planted: buffers counted too; biases forgotten."""
    assert not counts_agree(lambda m: sum(t.numel() for t in m.state_dict().values()))
    assert not counts_agree(lambda m: sum(p.numel() for p in m.parameters() if p.ndim > 1))


def convolution_agrees(convolve) -> bool:
    """With SciPy's correlation in float64, channel by channel."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 9, 11)), rng.normal(size=(5, 3, 3))
    want = sum(signal.correlate2d(x[c], w[c], mode="valid") for c in range(5))
    got = convolve(torch.tensor(x).float(), torch.tensor(w).float()).numpy()
    return got.shape == want.shape and np.allclose(got, want, atol=1e-4)


def test_convolution_by_hand():
    assert convolution_agrees(function("02", "convolve"))


def test_the_convolution_test_bites():
    """Planted: a mirrored kernel, the first channel only, rows and columns swapped."""
    right = function("02", "convolve")
    assert not convolution_agrees(lambda x, w: right(x, w.flip(1, 2)))
    assert not convolution_agrees(lambda x, w: right(x[:1], w[:1]))
    assert not convolution_agrees(lambda x, w: right(x, w.transpose(1, 2)))


def batchnorm_agrees(layer_class) -> bool:
    """With the formula in NumPy, float64, trained twice and then evaluated.

    The running variance is the unbiased one.
    """
    rng = np.random.default_rng(1)
    gamma, beta, mean = rng.uniform(0.5, 2, 3), rng.normal(size=3), rng.normal(size=3)
    var = rng.uniform(0.5, 2, 3)
    layer = layer_class(3)
    state = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var}
    layer.load_state_dict({k: torch.tensor(v).float() for k, v in state.items()}, strict=False)
    column, agree = lambda v: v[None, :, None, None], True
    for training in (True, True, False):
        x = rng.normal(1, 3, size=(4, 3, 5, 6))
        flat = x.transpose(1, 0, 2, 3).reshape(3, -1)
        mu, sigma2 = (flat.mean(1), flat.var(1)) if training else (mean, var)
        want = column(gamma) * (x - column(mu)) / np.sqrt(column(sigma2) + 1e-5) + column(beta)
        if training:
            mean, var = 0.9 * mean + 0.1 * flat.mean(1), 0.9 * var + 0.1 * flat.var(1, ddof=1)
        got = layer.train(training)(torch.tensor(x).float()).detach().numpy()
        agree &= np.allclose(got, want, atol=1e-4)
        agree &= np.allclose(layer.running_mean, mean, atol=1e-5)
        agree &= np.allclose(layer.running_var, var, rtol=1e-5)
    return bool(agree)


def test_batchnorm_by_hand():
    assert batchnorm_agrees(function("02_deep", "BatchNorm")) and batchnorm_agrees(nn.BatchNorm2d)


@pytest.mark.parametrize(
    "mistake",
    [
        ("unbiased=False", "unbiased=True"),
        ("var * n / (n - 1)", "var"),
        ("0.1 * (mu", "0.9 * (mu"),
        ("if self.training", "if not self.training"),
        ("x.mean((0, 2, 3))", "x.mean((0, 2, 3)) * 0"),
        ("1e-05", "0.1"),
    ],
)
def test_the_batchnorm_test_bites(mistake):
    assert not batchnorm_agrees(function("02_deep", "BatchNorm", mistake))


def block_agrees(block_class, model) -> bool:
    """With torchvision's block, which holds the same weights."""
    block = block_class(64).eval()
    block.load_state_dict(model.layer1[0].state_dict())
    x = torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(0)).relu()
    with torch.no_grad():
        got = block(x)
        want = model.layer1[0](x)
    return got.shape == want.shape and torch.allclose(got, want, atol=1e-4)


def test_residual_block_by_hand(varied_resnet):
    assert block_agrees(function("02_deep", "ResidualBlock"), varied_resnet)


@pytest.mark.parametrize(
    "mistake", [("(F + x).relu()", "F.relu()"), ("(F + x).relu()", "F.relu() + x")]
)
def test_the_block_test_bites(mistake, varied_resnet):
    assert not block_agrees(function("02_deep", "ResidualBlock", mistake), varied_resnet)


def test_the_block_needs_its_padding(varied_resnet):
    with pytest.raises(RuntimeError, match="size"):
        no_padding = function("02_deep", "ResidualBlock", ("padding=1", "padding=0"))
        block_agrees(no_padding, varied_resnet)
