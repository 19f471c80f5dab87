"""What the study of unseen scanners trains: a short ResNet-18, and five ways to fit it.

The network is ResNet-18 without its last block (2.8 million numbers, 256 features): four trainings
in the time of one. "ERM": cross-entropy, nothing else. "CORAL" (Sun & Saenko 2016) adds the
distance of the domains' covariances, "DANN" (Ganin et al. 2016) a domain classifier behind a
reversed gradient; "style" (MixStyle, Zhou et al. 2021) mixes the channels' means and SDs of two
images; "physics" changes gain, time-gain curve, blur and speckle of the picture.
"""

from __future__ import annotations

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import nn

from medtl_utils import source_model
from medtl_utils.training import autocast, best_device

UPDATES, BATCH, DECAY = 100, 24, 0.05
FEATURES = 256
JUDGE = 10  # DANN's domain classifier learns at so many times the rate
MIX_CHANCE, MIX_BETA = 0.5, 0.1  # of MixStyle: how often, and its Beta distribution


class Net(nn.Module):
    """The trunk of a source up to its third block, and a new head with two outputs."""

    def __init__(self, source: str):
        super().__init__()
        self.trunk = source_model(source)
        self.trunk.layer4, self.trunk.fc = nn.Identity(), nn.Identity()
        self.trunk.__dict__.pop("heads", None)
        self.normalisation, self.head = self.trunk.normalisation, nn.Linear(FEATURES, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x))


# ---- what each method adds -----------------------------------------------------------------------


def covariance(f: torch.Tensor) -> torch.Tensor:
    centred = f - f.mean(0)
    return centred.T @ centred / (len(f) - 1)


def coral(f: torch.Tensor, domains: torch.Tensor) -> torch.Tensor:
    """Mean over pairs of domains of the squared distance of their covariances, / 4 d²."""
    each = [covariance(f[domains == k]) for k in domains.unique()]
    pairs = list(itertools.combinations(each, 2))
    return sum((a - b).square().sum() for a, b in pairs) / len(pairs) / (4 * f.shape[1] ** 2)


class Reverse(torch.autograd.Function):
    """Forward: x as it is. Backward: the gradient times -strength."""

    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.strength * gradient, None


def mix_style(h: torch.Tensor, share: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Channels (N, C, H, W) with mean and SD moved towards those of image `other`.

    `share` (N, 1, 1, 1): 1 keeps an image's own style.
    """
    mean, sd = h.mean((2, 3), keepdim=True), (h.var((2, 3), keepdim=True) + 1e-6).sqrt()
    mean, sd = mean.detach(), sd.detach()
    new_mean = share * mean + (1 - share) * mean[other]
    new_sd = share * sd + (1 - share) * sd[other]
    return (h - mean) / sd * new_sd + new_mean


def style_hook(module: nn.Module, _inputs, h: torch.Tensor) -> torch.Tensor | None:
    """In training, now and then: the styles of the batch are mixed."""
    if not module.training or torch.rand(()) > MIX_CHANCE:
        return None
    beta = torch.distributions.Beta(MIX_BETA, MIX_BETA)
    return mix_style(h, beta.sample((len(h), 1, 1, 1)).to(h), torch.randperm(len(h)))


def physics(x: torch.Tensor, s: float) -> torch.Tensor:
    """Another machine, another operator: images (N, 1, H, W) of 0..255, strength s.

    Gain and time-gain curve in dB, 50 dB = 255 levels, black stays black; blur of 1 pixel or less;
    speckle that multiplies.
    """
    n, _, height, width = x.shape
    knots = 3 * s * torch.randn(n, 1, 4, 1)
    curve = F.interpolate(knots, (height, 1), mode="bilinear", align_corners=True)
    gain = 6 * s * (2 * torch.rand(n, 1, 1, 1) - 1) + curve
    x = x + 255 / 50 * gain * (x / 10).clamp(max=1)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    kernel = (kernel[:, None] * kernel).view(1, 1, 3, 3)
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel)
    share = (s * torch.rand(n, 1, 1, 1)).clamp(max=1)
    x = x + share * (blurred - x)
    grain = 3**0.5 * F.avg_pool2d(torch.randn_like(x), (1, 3), 1, (0, 1))
    return (x * (1 + 0.15 * s * torch.rand(n, 1, 1, 1) * grain)).clamp(0, 255)


# ---- one training --------------------------------------------------------------------------------


def batches(domains: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """Rows of UPDATES batches, as many of each domain in each; pass after pass, in a new order."""
    rng, kinds = torch.Generator().manual_seed(seed), domains.unique()
    each = BATCH // len(kinds)
    parts = []
    for k in kinds:
        rows = torch.nonzero(domains == k)[:, 0]
        passes = -(-UPDATES * each // len(rows))
        order = [rows[torch.randperm(len(rows), generator=rng)] for _ in range(passes)]
        parts.append(torch.cat(order)[: UPDATES * each].view(UPDATES, each))
    return list(torch.cat(parts, 1))


def trained(train: dict, source: str, method: str, strength: float, rate: float, seed: int) -> Net:
    """A network after UPDATES updates. `train`: images, labels, domains.

    The same seed begins at the same head and deals the same batches, whatever the method.
    """
    torch.manual_seed(seed)
    net = Net(source).train().to(memory_format=torch.channels_last)
    kinds = train["domains"].unique()
    judge = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, len(kinds)))
    if method == "style":
        for name in ("layer1", "layer2")[: int(strength)]:
            getattr(net.trunk, name).register_forward_hook(style_hook)
    groups = [{"params": net.parameters()}]
    groups += [{"params": judge.parameters()}] if method == "DANN" else []
    rates = [rate, JUDGE * rate][: len(groups)]
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=UPDATES)
    for rows in batches(train["domains"], seed):
        x, where = train["images"][rows], torch.searchsorted(kinds, train["domains"][rows])
        if method == "physics":
            x = physics(x.float(), strength).round().to(torch.uint8)
        x = net.normalisation(x).contiguous(memory_format=torch.channels_last)
        with autocast(best_device()):
            f = net.trunk(x).float()
        loss = F.cross_entropy(net.head(f), train["labels"][rows])
        if method == "CORAL":
            loss = loss + strength * coral(f, where)
        if method == "DANN":
            loss = loss + F.cross_entropy(judge(Reverse.apply(f, strength)), where)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def features(net: Net, images: torch.Tensor) -> torch.Tensor:
    """(N, FEATURES)."""
    parts = []
    for part in images.split(80):
        x = net.normalisation(part).contiguous(memory_format=torch.channels_last)
        with autocast(best_device()):
            parts.append(net.trunk(x).float())
    return torch.cat(parts)


@torch.no_grad()
def log_odds(net: Net, images: torch.Tensor) -> torch.Tensor:
    """Log-odds of disease, (N,)."""
    out = net.head(features(net, images))
    return out[:, 1] - out[:, 0]


@torch.no_grad()
def adapted(net: Net, images: torch.Tensor) -> Net:
    """AdaBN (Li et al. 2016): BatchNorm's means and variances from these images, without labels."""
    net = copy.deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over all parts
            layer.train()
    for part in images.chunk(max(1, len(images) // 60)):
        net.trunk(net.normalisation(part).contiguous(memory_format=torch.channels_last))
    return net.eval()
