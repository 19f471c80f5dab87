"""Random fields and small operators of the simulator, on grids of n rows (depth) and n columns."""

from __future__ import annotations

import torch


def lookup(table: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Periodic linear interpolation of (B, 256) tables over (B, n, n) angles in -pi..pi."""
    count = table.shape[1]
    at = (angle + torch.pi) * (count / (2 * torch.pi))
    low = at.floor()
    frac, low = at - low, low.long().flatten(1) % count
    left = table.gather(1, low).view_as(at)
    right = table.gather(1, (low + 1) % count).view_as(at)
    return left + frac * (right - left)


def bell(z: torch.Tensor) -> torch.Tensor:
    """exp(-z^2), not below e^-40: float32 is ten times as slow with even smaller numbers."""
    return torch.exp(-z.square().clamp_max(40.0))


def smooth_step(z: torch.Tensor) -> torch.Tensor:
    """Sigmoid from 0 to 1, kept away from float32's smallest numbers as in `bell`."""
    return torch.sigmoid(z.clamp(-40, 40))


def basis(n: int, knots: int) -> torch.Tensor:
    """(n, knots) smooth bumps: maps a few random numbers to a curve of about unit variance."""
    at, knot = torch.linspace(0, knots - 1, n)[:, None], torch.arange(knots)[None]
    weight = bell((at - knot) / 0.8)
    return weight / weight.square().sum(1, keepdim=True).sqrt()


def texture(noise: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """White noise (B, n, n) blurred by `down` and `across` pixels (sigma), of unit variance."""
    n = noise.shape[-1]
    return blur_matrices(down, n) @ noise @ blur_matrices(across, n)


def bent(texture: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """A texture (B, n, n) moved up by `shift` (B, n, n), a share of its height; mirrored beyond."""
    n = texture.shape[-1]
    at = (torch.arange(n, device=texture.device) + 0.5) * (2 / n) - 1
    x, y = at.view(1, 1, n).expand_as(shift), at.view(1, n, 1) + 2 * shift
    sample = torch.nn.functional.grid_sample
    moved = sample(
        texture[:, None], torch.stack([x, y], -1), padding_mode="reflection", align_corners=False
    )
    return moved[:, 0]


def blur_matrices(sigma: torch.Tensor, n: int) -> torch.Tensor:
    """(B, n, n) blurs of B `sigma` (pixels); rows of unit L2 norm keep white noise's variance."""
    i = torch.arange(n, device=sigma.device, dtype=torch.float32)
    sigma = sigma.flatten().clamp_min(0.3)[:, None, None]
    matrix = bell((i[:, None] - i[None]) / (2**0.5 * sigma))
    return matrix / matrix.square().sum(2, keepdim=True).sqrt()


def mean_blur(sigma: torch.Tensor, n: int) -> torch.Tensor:
    """(B, n, n) Gaussian blurs across the beams, for use from the right, that keep the mean."""
    matrix = blur_matrices(sigma, n)
    return (matrix / matrix.sum(2, keepdim=True)).transpose(1, 2)


def downsample(n: int, size: int) -> torch.Tensor:
    """(size, n) triangle filter, as in antialiased bilinear resizing; rows sum to 1."""
    scale = n / size
    centre = (torch.arange(size) + 0.5) * scale
    weight = (1 - ((torch.arange(n) + 0.5)[None] - centre[:, None]).abs() / scale).clamp_min(0)
    return weight / weight.sum(1, keepdim=True)
