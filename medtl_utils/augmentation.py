"""The default augmentation of `fine_tune`."""

from __future__ import annotations

import torch
from torchvision.transforms import v2

# Left and right may be swapped; top and bottom may not: shadows fall away from the probe.
AUGMENT = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.RandomAffine(
            degrees=5,
            translate=(0.08, 0.08),
            scale=(0.9, 1.1),
            interpolation=v2.InterpolationMode.BILINEAR,
        ),
        v2.ColorJitter(brightness=0.15, contrast=0.15),
    ]
)


def augment(images: torch.Tensor, group: int = 8) -> torch.Tensor:
    """AUGMENT on uint8 (N, C, H, W), a new random draw for every `group` images.

    Returns uint8 of the same shape. Raises ValueError for other inputs.
    """
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ValueError(
            f"The default augmentation is for uint8 (N, C, H, W); the inputs are {images.dtype} "
            f"{tuple(images.shape)}. Give fine_tune augment=None, or your own."
        )
    return torch.cat([AUGMENT(part) for part in images.split(group)])
