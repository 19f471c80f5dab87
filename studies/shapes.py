"""The control source: pictures that are no ultrasound, with as many questions about them.

A model trained on them gains by training as such; what ultrasound adds is the simulated physics.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

# question -> number of answers, as many as the descriptors of the ultrasound have
ANSWERS = {
    "texture of the shape": 3,  # smooth, fine grain, coarse grain
    "shape": 5,  # disc, square, star, ring, cross
    "taller than wide": 2,
    "texture of the ground": 4,  # grain, stripes, checks, rings
    "shape against ground": 3,  # darker, equal in mean, brighter
    "dots": 2,
    "outline": 2,
    "is there a shape": 2,
}


def simulate_shapes(
    start: int, count: int, size: int = 64, seed: int = 0, device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Shapes on textures: contrast, scale, place, rotation and texture vary.

    Returns images, masks and targets as `phantom.simulate_source` does: images uint8
    (count, 1, size, size), masks bool (count, size, size), targets int64 (count, 8). `device` is
    not used: it is there so that all simulators are called alike.
    """
    rng = np.random.default_rng([4, seed, start])
    targets = np.stack([rng.integers(0, k, count) for k in ANSWERS.values()], 1)
    targets[:, -1] = rng.random(count) > 0.15
    inner, shape, tall, texture, tone, dots, outline, there = (
        torch.tensor(answers).view(-1, 1, 1) for answers in targets.T
    )
    at = (torch.arange(size) + 0.5) / size
    y, x = at.view(1, -1, 1), at.view(1, 1, -1)
    ground = _ground(rng, texture, x, y)
    grain = _grain(rng, torch.where(inner == 2, 5, 1).flatten(), size) * (inner > 0)
    edge = _distance(rng, shape, tall, x, y)
    inside = torch.sigmoid((1 - edge) / _one(rng, count, 0.03, 0.3))
    inside = inside * torch.where(shape == 3, torch.sigmoid((edge - 0.55) / 0.08), 1.0) * there

    one = lambda low, high: _one(rng, count, low, high)
    level, step = one(60, 150), one(25, 60) * (tone - 1)
    picture = level + one(8, 30) * ground * (1 - 0.7 * inside)
    picture = picture + inside * (step + one(10, 24) * grain)
    picture = picture + outline * there * one(30, 70) * torch.exp(-(((edge - 1.05) / 0.07) ** 2))
    spots = torch.tensor(rng.random((count, size, size)) < 0.04, dtype=torch.float32)
    picture = picture + dots * there * one(60, 110) * spots * (edge < 0.9)
    picture = picture + one(-60, 60) * (y - 0.5)  # uneven light
    strength = one(2, 12)
    noise = torch.tensor(rng.standard_normal(picture.shape, dtype=np.float32))
    picture = picture + strength * noise
    mask = (edge < 1) & (there == 1)
    return picture.round().clamp(0, 255).to(torch.uint8)[:, None], mask, torch.tensor(targets)


def _one(rng: np.random.Generator, count: int, low: float, high: float) -> torch.Tensor:
    """One uniform number a picture, float32 (count, 1, 1)."""
    return torch.tensor(rng.uniform(low, high, (count, 1, 1)), dtype=torch.float32)


def _grain(rng: np.random.Generator, widths: torch.Tensor, size: int) -> torch.Tensor:
    """Noise of unit variance averaged over 1, 3 or 5 pixels, `widths`: (count, size, size)."""
    noise = torch.tensor(rng.standard_normal((len(widths), 1, size, size), dtype=np.float32))
    smooth = [F.avg_pool2d(noise, k, 1, k // 2)[:, 0] * k for k in (1, 3, 5)]
    return torch.stack(smooth)[widths // 2, torch.arange(len(widths))]


def _ground(
    rng: np.random.Generator, texture: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """The texture of the ground, (count, size, size) of about unit variance."""
    count, size = len(texture), x.shape[-1]
    turn, pitch = _one(rng, count, 0, math.pi), _one(rng, count, 4, 20)
    along = (x * turn.cos() + y * turn.sin()) * pitch
    across = (y * turn.cos() - x * turn.sin()) * pitch
    grain = _grain(rng, torch.tensor(1 + 2 * rng.integers(0, 3, count)), size)
    stripes = torch.sin(2 * math.pi * along)
    checks = torch.sign(torch.sin(math.pi * along) * torch.sin(math.pi * across))
    away = torch.hypot(x - _one(rng, count, 0, 1), y - _one(rng, count, 0, 1))
    rings = torch.sin(2 * math.pi * pitch * away)
    return torch.stack([grain, stripes, checks, rings])[texture.flatten(), torch.arange(count)]


def _distance(
    rng: np.random.Generator,
    shape: torch.Tensor,
    tall: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
) -> torch.Tensor:
    """How far out a pixel is, (count, size, size): below 1 inside the shape, 1 on its edge."""
    one = lambda low, high: _one(rng, len(shape), low, high)
    ratio = torch.where(tall == 1, one(1.15, 1.6), one(0.5, 0.82)).sqrt()
    radius, tilt = one(0.09, 0.3), one(-0.2, 0.2)
    dx, dy = x - one(0.3, 0.7), y - one(0.3, 0.7)
    u = (dx * tilt.cos() + dy * tilt.sin()) / radius * ratio
    v = (dy * tilt.cos() - dx * tilt.sin()) / radius / ratio
    r, angle = torch.hypot(u, v), torch.atan2(v, u)
    square = torch.maximum(u.abs(), v.abs()) * 1.15
    star = r / (0.75 + 0.3 * torch.cos(angle * one(5, 9).round() + one(0, 6)))
    bars = torch.minimum(
        torch.maximum(u.abs(), 2.6 * v.abs()), torch.maximum(2.6 * u.abs(), v.abs())
    )
    kinds = torch.stack([r, square, star, r, bars])  # a ring is a disc with a hole
    return kinds[shape.flatten(), torch.arange(len(shape))]
