"""The same picture twice: copies that were flipped, turned, cropped, rescaled or brightened."""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

COARSE, FINE = 16, 32  # pixels: to look for candidates, and to compare them
CORRELATION = 0.97  # of the pixels, after the best alignment that was found
NEARER, BACKGROUND = 0.35, 0.1  # of the distance to the nearest tenth of all pictures
CANDIDATES = 3  # pictures that are compared closely with each one
HOPEFUL = 0.75  # coarse correlation from which a closer look is worth its time
COMPARABLE, WITH_CUTS = 5000, 2000  # more images take too long
SCALES = (1.0, 0.9, 0.8, 0.7)  # sides of a crop
KEEP = 4  # answers in memory: a folder is looked at when it is loaded, and before the training
_KEPT: dict[bytes, list] = {}
TURNS = {  # name -> (quarter turns, flipped left and right afterwards)
    "": (0, False),
    "flipped left and right": (0, True),
    "flipped top and bottom": (2, True),
    "turned by 180°": (2, False),
    "turned by 90°": (1, False),
    "turned by 270°": (3, False),
    "turned by 90°, flipped": (1, True),
    "turned by 270°, flipped": (3, True),
}


class Duplicate(NamedTuple):
    """Two rows that show the same picture: how the second one was changed, and how alike they are.

    scale: the side of the part of the larger picture that the smaller one shows; 1 for all of it.
    """

    first: int
    second: int
    correlation: float
    turn: str
    scale: float

    @property
    def how(self) -> str:
        """In words."""
        cut = f"cut to {self.scale:.0%} of the side" if self.scale < 0.97 else ""
        return ", ".join(filter(None, (self.turn, cut))) or "the same view"


def find_duplicates(images: torch.Tensor, threshold: float = CORRELATION) -> list[Duplicate]:
    """Pairs of `images` uint8 (N, C, H, W) that show one picture, the most alike first.

    The same pictures in another order give the same pairs. Of pictures that are equal in every
    pixel the first one is compared with others, and each of the rest is a pair with the first.

    Found are copies under quarter turns and flips, of other size, brightness or contrast, and cuts
    down to about 0.7 of the side (flipped or not; above 2,000 images no cuts). Alike: Pearson
    correlation of the grey pixels at 32 × 32 above `threshold`, after the best alignment; where
    all pictures look alike, as retinas do, much nearer than the nearest tenth of the others. Each
    image is compared closely with its three best candidates. Images without contrast have no
    copies. Time N²; raises ValueError above 5,000.
    """
    if len(images) > COMPARABLE:
        raise ValueError(
            f"{len(images):,} images are too many to compare each with each; {COMPARABLE:,} at "
            "most. Compare a part of them."
        )
    if len(images) < 2:
        return []
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images.numpy()]
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    rows = [first[digest] for digest in sorted(first)]  # an order that depends on pixels alone
    key = hashlib.sha256(repr((images.shape[1:], threshold)).encode() + b"".join(sorted(first)))
    if key.digest() not in _KEPT:
        while len(_KEPT) >= KEEP:
            _KEPT.pop(next(iter(_KEPT)))
        _KEPT[key.digest()] = _among_different(images[rows], threshold)
    found = []
    for pair in _KEPT[key.digest()]:
        a, b = sorted((rows[pair.first], rows[pair.second]))
        found.append(pair._replace(first=a, second=b))
    flat = images.flatten(1)
    copies = [(first[digest], row) for row, digest in enumerate(digests) if first[digest] != row]
    for one, row in copies:
        if flat[row].min() != flat[row].max():
            found.append(Duplicate(one, row, 1.0, "", 1.0))
    return sorted(found, key=lambda d: (-round(d.correlation, 4), d.first, d.second))


def copy_groups(images: torch.Tensor) -> np.ndarray:
    """(N,) int: the row of the first image of each group; pairs of `find_duplicates` are linked.

    Copies of copies are in one group.
    """
    pairs = [d[:2] for d in find_duplicates(images)]
    group = np.arange(len(images))
    for a, b in pairs:
        old, new = sorted((group[a], group[b]), reverse=True)
        group[group == old] = new
    return group


def _among_different(images: torch.Tensor, threshold: float) -> list[Duplicate]:
    """Pairs among images of which no two are equal in every pixel."""
    if len(images) < 2:
        return []
    grey = torch.cat([part.float().mean(1, keepdim=True) for part in images.split(256)])
    side = min(grey.shape[-1], 2 * FINE)
    grey = F.interpolate(grey, (side, side), mode="bilinear", antialias=True)
    found: dict[tuple[int, int], Duplicate] = {}
    rows, others, turns, boxes, background = _candidates(grey)
    limit = (1 - NEARER * (1 - background)).clamp_min(threshold)
    for number, (name, turn) in enumerate(TURNS.items()):
        mine = torch.nonzero(turns == number)[:, 0]
        for part in mine.split(2048) if len(mine) else ():
            larger = _turned(grey[others[part]], turn)
            likeness, sides = _aligned(grey[rows[part]], larger, boxes[part])
            needed = torch.maximum(limit[rows[part]], limit[others[part]])
            for k in torch.nonzero(likeness > needed)[:, 0].tolist():
                pair = tuple(sorted((int(rows[part[k]]), int(others[part[k]]))))
                one = Duplicate(*pair, float(likeness[k]), name, min(1.0, float(sides[k])))
                if pair not in found or one.correlation > found[pair].correlation + 1e-4:
                    found[pair] = one
    return list(found.values())


def _turned(images: torch.Tensor, turn: tuple[int, bool]) -> torch.Tensor:
    turned = torch.rot90(images, turn[0], (-2, -1))
    return turned.flip(-1) if turn[1] else turned


def _standardised(x: torch.Tensor) -> torch.Tensor:
    """(N, pixels) of mean 0 and length 1; all 0 where an image has no contrast."""
    x = x.flatten(1) - x.flatten(1).mean(1, keepdim=True)
    length = x.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-3 * math.sqrt(x.shape[1]), x / length.clamp_min(1e-12), 0.0)


def _sampled(images: torch.Tensor, boxes: torch.Tensor, side: int) -> torch.Tensor:
    """The squares `boxes` (N, 3: centre x, centre y in -1..1, side in 0..1) of images (N, 1, H, W).

    (N, 1, side, side); H and W are at most twice `side`.
    """
    zero = torch.zeros(len(boxes))
    x = torch.stack([boxes[:, 2], zero, boxes[:, 0]], 1)
    y = torch.stack([zero, boxes[:, 2], boxes[:, 1]], 1)
    grid = F.affine_grid(torch.stack([x, y], 1), [len(boxes), 1, side, side], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _boxes() -> torch.Tensor:
    """(27 + 1, 3): the whole picture, and squares of each smaller side in 3 × 3 places."""
    rows = []
    for scale in SCALES:
        places = (0.0,) if scale == 1 else (scale - 1, 0.0, 1 - scale)
        rows += [(x, y, scale) for x in places for y in places]
    return torch.tensor(rows)


def _candidates(grey: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(rows, rows of the larger picture, its turn, box): for each image the best candidates.

    Also, for each image, the coarse correlation that a tenth of the others reach.
    """
    n, boxes = len(grey), _boxes()
    fine = F.interpolate(grey, (FINE, FINE), mode="bilinear", antialias=True)
    whole = _standardised(F.adaptive_avg_pool2d(fine, COARSE))
    best = torch.full((n, n), -1.0)
    how = torch.zeros((n, n), dtype=torch.int16)
    for number, (quarters, flipped) in enumerate(TURNS.values()):
        turned = _turned(fine, (quarters, flipped))
        for which in range(len(boxes) if n <= WITH_CUTS and quarters % 2 == 0 else 1):
            cut = _standardised(_sampled(turned, boxes[which].expand(n, 3), COARSE))
            likeness = whole @ cut.T
            how[likeness > best] = number * len(boxes) + which
            best = torch.maximum(best, likeness)
    best.fill_diagonal_(-1.0)
    top, others = best.topk(min(CANDIDATES, n - 1), dim=1)
    rows = torch.arange(n)[:, None].expand_as(others)[top > HOPEFUL]
    others = others[top > HOPEFUL]
    chosen = how[rows, others].long()
    place = min(n - 1, max(5, round(BACKGROUND * n)))
    background = best.topk(place, dim=1).values[:, -1] if n > 10 else torch.zeros(n)
    return rows, others, chosen // len(boxes), boxes[chosen % len(boxes)], background


def _aligned(
    images: torch.Tensor, larger: torch.Tensor, boxes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(correlation, side of the box) after moving and scaling each box to where it fits best."""
    whole = torch.tensor([0.0, 0.0, 1.0]).expand(len(boxes), 3)
    target, boxes = _standardised(_sampled(images, whole, FINE)), boxes.clone()

    def likeness(at: torch.Tensor) -> torch.Tensor:
        return (target * _standardised(_sampled(larger, at, FINE))).sum(1)

    best = likeness(boxes)
    for step in (0.08, 0.04, 0.02, 0.01):
        moves = [sign * step * unit for unit in torch.eye(3) for sign in (1, -1)]
        for move in moves * (2 if step == 0.08 else 1):
            tried = boxes + move
            tried[:, 2].clamp_(0.5, 1.1)
            value = likeness(tried)
            better = value > best
            best, boxes = (
                torch.where(better, value, best),
                torch.where(better[:, None], tried, boxes),
            )
    return best, boxes[:, 2]
