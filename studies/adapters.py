"""Ways to adapt a source network that leave most of it as it is, and full tuning beside them.

Each function takes a network, makes it ready and returns it; what may move has `requires_grad`. At
the start the outputs are those of the network as it was.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from medtl_utils import freeze
from medtl_utils.models import head_of, set_batchnorm

RANK, PULL = 4, 0.01  # of LoRA; of L2-SP


class LoRAConv(nn.Module):
    """A frozen convolution W plus B A, two small ones; Hu et al. 2022, on convolutions."""

    def __init__(self, conv: nn.Conv2d, rank: int = RANK):
        super().__init__()
        self.conv = conv.requires_grad_(False)
        places = {"stride": conv.stride, "padding": conv.padding, "bias": False}
        self.A = nn.Conv2d(conv.in_channels, rank, conv.kernel_size, **places)
        self.B = nn.Conv2d(rank, conv.out_channels, 1, bias=False)
        nn.init.zeros_(self.B.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.B(self.A(x))


class ResidualAdapter(nn.Module):
    """A frozen convolution plus a 1x1 convolution beside it; Rebuffi et al. 2018, parallel."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv.requires_grad_(False)
        self.side = nn.Conv2d(
            conv.in_channels, conv.out_channels, 1, stride=conv.stride, bias=False
        )
        nn.init.zeros_(self.side.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.side(x)


def beside_convolutions(model: nn.Module, layer) -> nn.Module:
    """Every 3x3 convolution of a ResNet's blocks becomes `layer(convolution)`; only these move."""
    freeze(model)
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer(part))
    return model


def lora(model: nn.Module) -> nn.Module:
    return beside_convolutions(model, LoRAConv)


def residual_adapter(model: nn.Module) -> nn.Module:
    return beside_convolutions(model, ResidualAdapter)


def batchnorm_affine(model: nn.Module, mode: str) -> nn.Module:
    """Only the head and each BatchNorm's scale and shift move; `mode`: of the statistics."""
    model.requires_grad_(False)
    set_batchnorm(model, mode)
    head_of(model)[1].requires_grad_(True)
    return model


def scale_and_shift(model: nn.Module) -> nn.Module:
    """Scale and shift of each channel; the source's statistics stay."""
    return batchnorm_affine(model, "eval")


def batchnorm_only(model: nn.Module) -> nn.Module:
    """Scale and shift, and the statistics become the target's."""
    return batchnorm_affine(model, "train")


def probe(model: nn.Module) -> nn.Module:
    return freeze(model)


def full(model: nn.Module) -> nn.Module:
    return freeze(model, through=None, batchnorm="train")


METHODS = {
    "probe": probe,
    "scale and shift": scale_and_shift,
    "BatchNorm only": batchnorm_only,
    "LoRA": lora,
    "residual adapter": residual_adapter,
    "L2-SP": full,
    "full": full,
}


def trained(model: nn.Module) -> int:
    """How many numbers may move."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def pulled_to_source(model: nn.Module, pull: float = PULL):
    """Cross-entropy plus pull / 2 times the squared distance to the weights as they are now.

    The head is not pulled. Li, Grandvalet & Davoine, "Explicit inductive bias", ICML 2018.
    """
    head = {id(p) for p in head_of(model)[1].parameters()}
    shared = [p for p in model.parameters() if id(p) not in head and p.requires_grad]
    start = [p.detach().clone() for p in shared]

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        distance = sum(((p - p0) ** 2).sum() for p, p0 in zip(shared, start))
        return F.cross_entropy(outputs, labels) + pull / 2 * distance

    return loss
