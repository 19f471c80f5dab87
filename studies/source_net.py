"""The network of the source task: descriptors and mask of a lesion, its losses and accuracies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from medtl_utils.models import GREY
from medtl_utils.phantom import DESCRIPTORS
from medtl_utils.training import autocast

HEADS = {**{name: len(values) for name, values in DESCRIPTORS.items()}, "lesion": 2}


class SourceNet(nn.Module):
    """A ResNet-18 with a head for the descriptors and one for the lesion's mask.

    The mask's head reads layers 2 to 4, on an 8 x 8 grid, and is thrown away after training. As in
    feature pyramids (Lin et al., CVPR 2017), coarse layers are enlarged and added to finer ones.
    """

    def __init__(self):
        super().__init__()
        self.trunk = torchvision.models.resnet18(num_classes=sum(HEADS.values()))
        self.mask = nn.ModuleList([nn.Conv2d(channels, 1, 1) for channels in (128, 256, 512)])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images (N, 3, H, W) -> logits (N, 23) and mask logits (N, 1, H/8, W/8)."""
        t = self.trunk
        second = t.layer2(t.layer1(t.maxpool(t.relu(t.bn1(t.conv1(x))))))
        third = t.layer3(second)
        fourth = t.layer4(third)
        mask = self.mask[2](fourth)
        for head, features in ((self.mask[1], third), (self.mask[0], second)):
            mask = head(features) + F.interpolate(mask, size=features.shape[-2:], mode="nearest")
        return t.fc(t.avgpool(fourth).flatten(1)), mask


def descriptor_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of the eight heads' cross-entropies; descriptors count only where there is a lesion."""
    parts = logits.float().split(list(HEADS.values()), 1)
    lesion = targets[:, -1] == 1
    loss = F.cross_entropy(parts[-1], targets[:, -1])
    for part, target in zip(parts[:-1], targets[:, :-1].T):
        loss = loss + F.cross_entropy(part[lesion], target[lesion])
    return loss


def mask_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of mask logits (N, 1, h, w).

    The target is the share of each cell that `masks` (N, 1, H, W, values 0..255) cover.
    """
    share = F.adaptive_avg_pool2d(masks / 255, logits.shape[-2:])
    return F.binary_cross_entropy_with_logits(logits.float(), share)


@torch.no_grad()
def accuracies(model: SourceNet, pictures: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Accuracy of each head on held-out pictures; descriptors where there is a lesion."""
    model.eval()
    device = next(model.parameters()).device
    with autocast(device):
        logits = torch.cat(
            [model(GREY(batch[:, :1].to(device)))[0].float().cpu() for batch in pictures.split(250)]
        )
    lesion, parts = targets[:, -1] == 1, logits.split(list(HEADS.values()), 1)
    result = {}
    for name, part, target in zip(HEADS, parts, targets.T):
        right = part.argmax(1) == target
        counted = right if name == "lesion" else right[lesion]
        result[name] = round(float(counted.float().mean()), 4)
    return result
