"""Simulated breast ultrasound: patients, scanners, six BI-RADS descriptors and lesion masks, all with known truth.

How one image is made (all lengths in mm, all echo strengths in dB):

1. an echogenicity map: skin, fat with Cooper ligaments, fibroglandular lobules, fascia, muscle;
2. a lesion drawn from its descriptors: contour R(angle), edge width L(angle), echo level, rim, calcifications;
3. attenuation, added up along each beam *away from the probe*: so a shadow can only lie behind what casts it;
4. speckle: complex white noise times the map, blurred by the point-spread function, averaged over compounded looks;
5. log compression to the scanner's dynamic range, gain, grey curve, and resampling to the requested size.

Speckle as in Wagner et al., "Statistics of speckle in ultrasound B-scans", IEEE Trans. Sonics Ultrasonics 30 (1983) 156.
Descriptors after the ACR BI-RADS Ultrasound lexicon. Teaching material: the images resemble ultrasound, they are not it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

VERSION = 1  # raise it whenever an image of the target task changes: it is part of every cache name

DESCRIPTORS: dict[str, tuple[str, ...]] = {
    "margin": ("circumscribed", "microlobulated", "indistinct", "spiculated"),
    "orientation": ("parallel", "not parallel"),
    "echo": ("hypoechoic", "isoechoic", "anechoic"),
    "posterior": ("none", "enhancement", "shadow"),
    "calcifications": ("absent", "present"),
    "halo": ("absent", "present"),
}

# P(value | benign), P(value | malignant). Margin (circumscribed, spiculated) and orientation are counts of Hong et al.,
# "BI-RADS for sonography", AJR 184 (2005) 1260: 262 benign and 141 malignant masses; circumscribed 160 and 18, spiculated
# 3 and 19, not parallel 34 and 75. For the rest the lexicon gives the direction and the sizes are assumptions, set so
# that the best possible AUC from the descriptors (`best_auc`) is about .96.
LIKELIHOODS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "margin": (
        (160 / 262, 0.18, 99 / 262 - 0.18, 3 / 262),
        (18 / 141, 0.34, 104 / 141 - 0.34, 19 / 141),
    ),
    "orientation": ((228 / 262, 34 / 262), (66 / 141, 75 / 141)),
    "echo": ((0.54, 0.22, 0.24), (0.83, 0.15, 0.02)),
    "posterior": ((0.56, 0.36, 0.08), (0.33, 0.10, 0.57)),
    "calcifications": ((0.95, 0.05), (0.62, 0.38)),
    "halo": ((0.94, 0.06), (0.54, 0.46)),
}
PREVALENCE = 0.4  # malignant patients in the target task


@dataclass(frozen=True)
class Scanner:
    """Settings of one machine: point-spread function (sigma, mm), compounded looks, dynamic range (dB), grey curve."""

    lateral_mm: float
    axial_mm: float
    looks: int
    range_db: float
    gamma: float
    depth_loss_db: float

    def position(self) -> np.ndarray:
        """Settings scaled to about 0..1 each, so that distances between scanners can be compared."""
        return np.array(
            [
                (self.lateral_mm - 0.25) / 0.65,
                (self.axial_mm - 0.12) / 0.3,
                (self.looks - 1) / 5,
                (self.range_db - 38) / 26,
                (self.gamma - 0.8) / 1.1,
                (self.depth_loss_db - 6) / 52,
            ]
        )


# The target's machines. No source image is made within SCANNER_GAP of any of them (see `draw_scanner`).
TARGET_SCANNERS: dict[str, Scanner] = {
    "A": Scanner(0.45, 0.20, 4, 52.0, 1.3, 28.0),
    "B": Scanner(0.70, 0.30, 2, 58.0, 1.1, 36.0),
    "C": Scanner(0.35, 0.16, 5, 44.0, 1.4, 22.0),
}
SCANNER_GAP = 0.15
# Size of the fibroglandular lobules, a property of the patient: the source never sees the target's range.
LOBULE_MM = {"source": ((1.2, 3.0), (4.5, 8.0)), "target": ((3.0, 4.5),)}
FIELD_MM = {"source": (28.0, 55.0), "target": (40.0, 40.0)}  # width = depth of the picture
FOCUS = {
    "source": (0.1, 0.9),
    "target": (0.25, 0.65),
}  # depth of the focal zone, as a share of the field
# What source images vary in beyond the target's machines and tissue: (range in the source, the one value in the target).
# A source that has seen more than it will meet. `draw_patient` and `render` say what each number does.
WIDER: dict[str, tuple[tuple[float, float], float]] = {
    "beam_mm": (
        (0.7, 4.0),
        1.0,
    ),  # width of the attenuated beams: spatial compounding makes shadows wide and soft
    "tgc_db": ((0.8, 3.5), 1.6),  # unevenness of the time-gain compensation
    "defocus": ((1.5, 3.5), 2.2),  # how many times wider the beam is away from the focus
    "posterior_times": ((0.7, 1.6), 1.0),  # strength of shadow and enhancement
    "lamella_db": ((0.0, 14.0), 0.0),  # long, wavy bright layers of connective tissue ...
    "lamella_mm": ((1.4, 4.5), 1.0),  # ... and their distance
    "streak_db": ((0.0, 9.0), 0.0),  # vertical streaks: shadows of ligaments near the skin
    "exposure": (
        (0.32, 0.52),
        0.0,
    ),  # where the operator's gain puts the mean echo between black and white; 0: as it comes
    "wild": ((1.0, 2.6), 1.0),  # irregularity of the contour
    "warp": ((0.0, 0.22), 0.0),  # bending of the lesion with the tissue
}
# Things that only some source images have, independent of every descriptor: probability, and the range of their strength.
EXTRAS: dict[str, tuple[float, tuple[float, float]]] = {
    "convex": (0.06, (0.2, 0.5)),  # curved probe: half of the sector's opening, radians
    "lobule_like": (0.35, (-9.0, -3.0)),  # a fat lobule that could be taken for a lesion, dB
    "rib_db": (0.15, (12.0, 30.0)),  # a rib at depth: bright, with its shadow
    "calipers": (0.12, (1.0, 1.0)),  # the two marks that a reader sets to measure; 1 = white
}
_STREAM = {"source": 1, "target": 2}  # first word of every random stream: no patient can be in both
_SPLITS = {"train": 0, "val": 1, "test": 2}
_ANGLES = 256
WHITE_DB = 9.0
_CALCS = 14


def best_auc(likelihoods: dict = LIKELIHOODS) -> float:
    """The AUC of the exact likelihood ratio over all descriptor combinations: no reader of the descriptors does better.

    `likelihoods`: as LIKELIHOODS. Returns a float in 0.5..1; ties count one half.
    """
    benign, malignant = (
        np.array([np.prod(c) for c in itertools.product(*(p[k] for p in likelihoods.values()))])
        for k in (0, 1)
    )
    order = np.argsort(malignant / np.maximum(benign, 1e-300), kind="stable")
    benign, malignant = benign[order], malignant[order]
    return float(np.sum(malignant * (np.cumsum(benign) - 0.5 * benign)))


def random_stream(kind: str, seed: int, *more: int) -> np.random.Generator:
    """An independent random generator for one patient or view; equal arguments give equal numbers on every machine."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([_STREAM[kind], seed, *more]))
    )


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """A scanner for a source image: wide ranges, but never within SCANNER_GAP of a scanner of the target task."""
    while True:
        scanner = Scanner(
            rng.uniform(0.25, 0.90),
            rng.uniform(0.12, 0.42),
            int(rng.integers(1, 7)),
            rng.uniform(42, 70),
            rng.uniform(0.8, 1.9),
            rng.uniform(4, 48),
        )
        if (
            min(np.abs(scanner.position() - s.position()).max() for s in TARGET_SCANNERS.values())
            > SCANNER_GAP
        ):
            return scanner


def draw_descriptors(rng: np.random.Generator, malignant: bool | None) -> dict[str, int]:
    """One value for each descriptor: by LIKELIHOODS given the class, or, for None, each value equally often.

    The source task uses None: its descriptors carry no trace of malignancy, not even through their correlation.
    """
    return {
        name: int(
            rng.choice(
                len(values), p=None if malignant is None else LIKELIHOODS[name][int(malignant)]
            )
        )
        for name, values in DESCRIPTORS.items()
    }


def draw_patient(
    rng: np.random.Generator, kind: str, malignant: bool | None = None, lesion: bool = True
) -> dict:
    """What stays the same over all images of one woman: scanner, tissue, and the lesion with its descriptors.

    `kind`: "source" or "target". Returns a dict of plain numbers, to be passed to `draw_view`.
    """
    names = list(TARGET_SCANNERS)
    low, high = LOBULE_MM[kind][rng.integers(len(LOBULE_MM[kind]))]
    scanner_name = names[rng.integers(3)] if kind == "target" else "source"
    descriptors = draw_descriptors(rng, malignant)
    anechoic = descriptors["echo"] == 2
    return {
        "scanner_name": scanner_name,
        "scanner": TARGET_SCANNERS[scanner_name] if kind == "target" else draw_scanner(rng),
        "field_mm": rng.uniform(*FIELD_MM[kind]),
        "lobule_mm": rng.uniform(low, high),
        "fat_mm": rng.uniform(2.0, 13.0),
        "gland_mm": rng.uniform(10.0, 32.0),
        "gland_db": rng.uniform(2.0, 8.0),
        "lobule_db": rng.uniform(2.0, 5.5),
        "ligament_db": rng.uniform(2.0, 9.0),
        "fascia_db": rng.uniform(4.0, 13.0),
        "sheet_mm": rng.uniform(6.0, 40.0),
        "layer_bumps": rng.standard_normal((4, 5)),
        "malignant": malignant,
        "lesion": lesion,
        "descriptors": descriptors,
        "size_mm": float(np.exp(rng.uniform(np.log(7), np.log(24)))),
        "ratio": rng.uniform(1.15, 1.6) if descriptors["orientation"] else rng.uniform(0.5, 0.82),
        "echo_db": {0: -rng.uniform(9, 16), 1: -rng.uniform(3, 6), 2: -rng.uniform(22, 32)}[
            descriptors["echo"]
        ],
        "inner_db": 0.3 if anechoic else rng.uniform(0.6, 2.4),
        # dB gained or lost by the beam over its whole way through the lesion
        "posterior_db": (rng.uniform(-1, 1), rng.uniform(5, 10), -rng.uniform(12, 24))[
            descriptors["posterior"]
        ],
        "wobble": rng.standard_normal(12),
        "phase": rng.uniform(0, 2 * np.pi, 12),
        "spicules": rng.uniform(0, 2 * np.pi, rng.integers(7, 13)),
        "kind": kind,
        **{
            name: rng.uniform(*wide) if kind == "source" else fixed
            for name, (wide, fixed) in WIDER.items()
        },
        **{
            name: rng.uniform(*r) * (rng.random() < p) if kind == "source" else 0.0
            for name, (p, r) in EXTRAS.items()
        },
    }


def _contour(rng: np.random.Generator, patient: dict) -> tuple[np.ndarray, np.ndarray]:
    """Radius R and edge width L over the angle, both in units of the lesion's half axes; shape (256,) each."""
    angle = np.linspace(-np.pi, np.pi, _ANGLES, endpoint=False)
    wobble = patient["wild"] * (
        patient["wobble"] + 0.25 * rng.standard_normal(12)
    )  # each view cuts the lesion in another plane
    wave = np.stack([wobble[k] * np.cos((k + 2) * angle + patient["phase"][k]) for k in range(12)])
    margin = patient["descriptors"]["margin"]
    if margin == 0:  # circumscribed: smooth and sharp
        radius, edge = 1 + 0.035 * wave[:2].sum(0).clip(-4, 4), np.full(_ANGLES, 0.05)
    elif margin == 1:  # microlobulated: short scallops, sharp
        lobes = 6 + int(abs(patient["wobble"][11]) * 3) % 4
        scallops = np.abs(np.cos(0.5 * lobes * (angle + 0.18 * wave[0]) + patient["phase"][0])) * (
            0.6 + 0.3 * wave[1]
        )
        radius, edge = 0.92 + 0.05 * wave[:3].sum(0) + 0.16 * scallops, np.full(_ANGLES, 0.07)
    elif margin == 2:  # indistinct: irregular, and the edge fades into the tissue
        radius, edge = 0.95 + 0.05 * wave[:5].sum(0), 0.32 + 0.12 * np.abs(wave[5])
    else:  # spiculated: thin lines that leave an irregular core
        radius, edge = 0.85 + 0.05 * wave[:6].sum(0), np.full(_ANGLES, 0.10)
        for k, at in enumerate(patient["spicules"] + rng.normal(0, 0.08, len(patient["spicules"]))):
            away = np.angle(np.exp(1j * (angle - at)))
            edge = edge + (0.5 + 0.3 * abs(wobble[k % 12])) * np.exp(-((away / 0.075) ** 2))
    return np.clip(radius, 0.45, 1.6), np.clip(edge, 0.03, 1.5)


def draw_view(rng: np.random.Generator, patient: dict, grid: int) -> dict[str, np.ndarray]:
    """One image of a patient: probe position, contour in this plane, machine knobs and noise, as float32 arrays.

    `grid`: rows = columns of the simulation grid. The keys of the result are what `render` reads.
    """
    field, scanner, descriptors = patient["field_mm"], patient["scanner"], patient["descriptors"]
    size, ratio = (
        patient["size_mm"] * rng.uniform(0.92, 1.08),
        patient["ratio"] * rng.uniform(0.94, 1.06),
    )
    size = min(size, 0.62 * field)
    half_x, half_y = (size / 2, size / 2 * ratio) if ratio < 1 else (size / 2 / ratio, size / 2)
    centre_x = field * rng.uniform(0.34, 0.66)
    centre_y = half_y * 1.15 + 3.0 + (0.62 * field - half_y - 3.0) * rng.uniform(0.0, 0.55)
    radius, edge = _contour(rng, patient)
    angle, reach = rng.uniform(0, 2 * np.pi, _CALCS), 0.85 * np.sqrt(rng.uniform(0, 1, _CALCS))
    calcs = np.zeros((_CALCS, 4))  # x, y, sigma (mm), strength (dB)
    if descriptors["calcifications"]:
        count = rng.integers(5, _CALCS + 1)
        calcs[:count] = np.stack(
            [
                centre_x + half_x * reach * np.cos(angle),
                centre_y + half_y * reach * np.sin(angle),
                rng.uniform(0.30, 0.55, _CALCS),
                rng.uniform(16, 28, _CALCS),
            ],
            1,
        )[:count]
    calcs[:, 2] = np.maximum(calcs[:, 2], 0.3)
    bad_contact = rng.uniform(4, 14) if rng.random() < 0.12 else 0.0
    noise = rng.standard_normal(
        (3 + 2 * scanner.looks, grid, grid), dtype=np.float32
    )  # lobules, texture, ligaments, looks
    numbers = {
        "field": field,
        "lobule": patient["lobule_mm"],
        "fat": patient["fat_mm"],
        "gland": patient["gland_mm"],
        "gland_db": patient["gland_db"],
        "lobule_db": patient["lobule_db"],
        "ligament_db": patient["ligament_db"],
        "fascia_db": patient["fascia_db"],
        "sheet": patient["sheet_mm"],
        "half_x": half_x,
        "half_y": half_y,
        "x": centre_x,
        "y": centre_y,
        "tilt": rng.normal(0, 0.12),
        "lesion": float(patient["lesion"]),
        "echo_db": patient["echo_db"],
        "inner_db": patient["inner_db"],
        "posterior_db": patient["posterior_db"],
        "halo_db": rng.uniform(6, 9) * descriptors["halo"],
        "rim_db": rng.uniform(2, 5) * (descriptors["margin"] == 0),
        "edge_shadow_db": rng.uniform(0, 6) * (descriptors["margin"] == 0) * (rng.random() < 0.5),
        "lateral": scanner.lateral_mm,
        "axial": scanner.axial_mm,
        "looks": scanner.looks,
        "range_db": scanner.range_db,
        "gamma": scanner.gamma * rng.uniform(0.9, 1.1),
        "loss_db": scanner.depth_loss_db + rng.normal(0, 3),
        "focus": field * rng.uniform(*FOCUS[patient["kind"]]),
        "gain_db": rng.normal(0, 3.0),
        "contact_db": bad_contact,
        "contact_x": rng.uniform(0, field),
        "contact_w": rng.uniform(1.5, 5.0),
        "reverb_db": rng.uniform(3, 9) * (rng.random() < 0.4),
        "reverb_mm": rng.uniform(1.2, 2.6),
        "skin_mm": rng.uniform(1.0, 2.2),
        "striae_db": rng.uniform(0.5, 3.0),
        "striae_mm": rng.uniform(1.2, 2.8),
        **{name: patient[name] for name in (*WIDER, *EXTRAS)},
    }
    places = np.zeros(
        6
    )  # x, y and half axes of the fat lobule, x and y of the rib: source images only
    if patient["kind"] == "source":
        places = np.array([*field * rng.uniform((0.1, 0.25), (0.9, 0.8)), *rng.uniform((4, 2), (9, 5)), *field * rng.uniform((0.1, 0.6), (0.9, 0.95))])  # fmt: skip
    numbers |= dict(zip(("fat_x", "fat_y", "fat_half_x", "fat_half_y", "rib_x", "rib_y"), places))
    return {
        "numbers": np.array(list(numbers.values()), np.float32),
        "names": list(numbers),
        "bumps": (patient["layer_bumps"] + 0.4 * rng.standard_normal((4, 5))).astype(np.float32),
        "tgc": rng.standard_normal((5, 3)).astype(np.float32),
        "radius": radius.astype(np.float32),
        "edge": edge.astype(np.float32),
        "calcs": calcs.astype(np.float32),
        "noise": noise,
    }


def _bell(z: torch.Tensor) -> torch.Tensor:
    """exp(-z^2), floored at e^-40: numbers too small for float32's normal range would be ten times as slow."""
    return torch.exp(-z.square().clamp_max(40.0))


def _basis(n: int, knots: int) -> torch.Tensor:
    """(n, knots) matrix of smooth bumps: maps a few random numbers to a smooth curve of about unit variance."""
    at, knot = torch.linspace(0, knots - 1, n)[:, None], torch.arange(knots)[None]
    weight = _bell((at - knot) / 0.8)
    return weight / weight.square().sum(1, keepdim=True).sqrt()


def _blur_matrices(sigma: torch.Tensor, n: int) -> torch.Tensor:
    """(B, n, n) Gaussian blurs whose rows have unit L2 norm, so white noise keeps its variance. `sigma` (B,) in pixels."""
    i = torch.arange(n, device=sigma.device, dtype=torch.float32)
    matrix = _bell((i[:, None] - i[None]) / (2**0.5 * sigma.clamp_min(0.3)[:, None, None]))
    return matrix / matrix.square().sum(2, keepdim=True).sqrt()


def _mean_blur(sigma: torch.Tensor, n: int) -> torch.Tensor:
    """(B, n, n) Gaussian blurs across the beams (to be multiplied from the right) that keep the mean."""
    matrix = _blur_matrices(sigma.flatten(), n)
    return (matrix / matrix.sum(2, keepdim=True)).transpose(1, 2)


def _downsample(n: int, size: int) -> torch.Tensor:
    """(size, n) triangle-filter resampling matrix (what antialiased bilinear resizing does), rows sum to 1."""
    scale = n / size
    centre = (torch.arange(size) + 0.5) * scale
    weight = (1 - ((torch.arange(n) + 0.5)[None] - centre[:, None]).abs() / scale).clamp_min(0)
    return weight / weight.sum(1, keepdim=True)


def _lookup(table: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Periodic linear interpolation of (B, 256) tables over (B, n, n) angles in -pi..pi."""
    at = (angle + torch.pi) * (_ANGLES / (2 * torch.pi))
    low = at.floor()
    frac, low = at - low, low.long().flatten(1) % _ANGLES
    left, right = table.gather(1, low).view_as(at), table.gather(1, (low + 1) % _ANGLES).view_as(at)
    return left + frac * (right - left)


def _sector(pictures: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """Bend (B, C, n, n) pictures of parallel beams into the sector of a curved probe; outside it is black.

    `half`: (B, 1, 1) half opening in radians. Depth is kept along each beam, so a shadow still lies behind what casts it,
    but beams spread.
    """
    n = pictures.shape[-1]
    at = (torch.arange(n, device=pictures.device) + 0.5) / n
    z, x = at[None, :, None], at[None, None, :] - 0.5
    apex = (
        1 / torch.sin(half) - 1
    ) / 2  # above the skin, in picture heights: mean width = picture width
    beam = torch.atan2(x, z + apex) / half
    depth = torch.hypot(x, z + apex) - apex
    return torch.nn.functional.grid_sample(
        pictures, torch.stack([beam, 2 * depth - 1], -1), align_corners=False
    )


def _calipers(x: torch.Tensor, y: torch.Tensor, p: dict[str, torch.Tensor]) -> torch.Tensor:
    """(B, n, n) in 0..1: crosses of 2.6 mm at both ends of the lesion's width."""
    crosses = []
    for side in (-1.0, 1.0):
        dx, dy = (x - p["x"] - 1.05 * side * p["half_x"]).abs(), (y - p["y"]).abs()
        crosses += [_bell(dx / 0.4) * (dy < 1.3), _bell(dy / 0.4) * (dx < 1.3)]
    return torch.stack(crosses).amax(0)


@torch.no_grad()
def render(
    views: list[dict], size: int, device: str | torch.device = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn drawn views into pictures.

    Returns images, torch uint8 (B, 1, size, size), 0 = black; and masks, torch bool (B, size, size), the lesion's core.
    """
    stack = lambda key: torch.from_numpy(np.stack([v[key] for v in views])).to(device)
    p = dict(zip(views[0]["names"], stack("numbers").T[:, :, None, None]))
    n = views[0]["noise"].shape[-1]
    noise = torch.zeros(len(views), max(len(v["noise"]) for v in views), n, n)
    for target, view in zip(noise, views):
        target[: len(view["noise"])] = torch.from_numpy(view["noise"])
    noise = noise.to(device)
    mm = p["field"] / n  # one grid step in mm
    rows = torch.arange(n, device=device, dtype=torch.float32) + 0.5
    y, x = rows[None, :, None] * mm, rows[None, None, :] * mm  # depth and lateral position, mm
    soft = lambda z: torch.sigmoid(z.clamp(-40, 40))

    # 1. tissue. `depth` is depth below the bent layers; each layer takes over from the one above at its upper face
    bumps = _basis(n, 4).to(device) @ stack("bumps") @ _basis(n, 5).to(device).T
    lobules = (
        _blur_matrices((p["lobule"] / mm / 2.5).flatten(), n)
        @ noise[:, 0]
        @ _blur_matrices((p["lobule"] / mm).flatten(), n)
    )
    fine = (
        _blur_matrices((0.6 / mm).flatten(), n)
        @ noise[:, 1]
        @ _blur_matrices((0.9 / mm).flatten(), n)
    )
    strands = (
        _blur_matrices((1.2 / mm).flatten(), n)
        @ noise[:, 2]
        @ _blur_matrices((3.5 / mm).flatten(), n)
    )
    depth = y + 1.6 * bumps + 0.5 * lobules
    fat, muscle = p["fat"], p["fat"] + p["gland"]
    in_gland, in_muscle = soft((depth - fat) / 0.5), soft((depth - muscle) / 0.4)
    ligaments = p["ligament_db"] * _bell(strands / 0.25) * (1 - in_muscle)
    db = (
        -12
        + in_gland * (p["gland_db"] + p["lobule_db"] * lobules)
        + 1.2 * fine
        + ligaments * (1 - 0.4 * in_gland)
    )
    striae = p["striae_db"] * torch.sin(2 * torch.pi * depth / p["striae_mm"] + 1.5 * lobules)
    db = db * (1 - in_muscle) + in_muscle * (-10 + striae + 0.5 * p["lobule_db"] * lobules)
    facing = p["fascia_db"] * soft(
        1.5 * bumps + 0.8 * lobules
    )  # a fascia shines where it faces the beam
    for face in (fat, muscle, p["sheet"]):
        db = db + facing * _bell((depth - face) / 0.45)
    db = db + 6 * _bell((y / p["skin_mm"]) ** 2)
    db = db + p["reverb_db"] * torch.cos(
        torch.pi * y / p["reverb_mm"]
    ).square().square().square() * torch.exp(-y / 4)

    layers = torch.sin(
        torch.pi * (depth + 0.6 * strands) / p["lamella_mm"]
    )  # they keep out of the lesion: see `cover`
    db = db + p["lamella_db"] * _bell(layers / 0.35) * soft(2 * lobules + 1.5 * bumps)
    if p["lobule_like"].any():
        away = ((x - p["fat_x"]) / p["fat_half_x"].clamp_min(1)) ** 2 + (
            (y - p["fat_y"]) / p["fat_half_y"].clamp_min(1)
        ) ** 2
        db = db + p["lobule_like"] * (
            _bell(away) - 0.8 * _bell((away - 1.3) / 0.35)
        )  # dark, in a bright capsule

    # 2. lesion: r is 1 on the ellipse; inside R(angle) it is lesion, beyond it fades within the edge width L(angle)
    cos, sin = torch.cos(p["tilt"]), torch.sin(p["tilt"])
    u = ((x - p["x"]) * cos + (y - p["y"]) * sin) / p["half_x"] + p["warp"] * bumps
    v = ((y - p["y"]) * cos - (x - p["x"]) * sin) / p["half_y"] + p["warp"] * bumps.flip(2)
    r, angle = torch.hypot(u, v), torch.atan2(v, u)
    outside = r - _lookup(stack("radius"), angle)
    width = _lookup(stack("edge"), angle)
    core = p["lesion"] * (outside < 0)
    cover = p["lesion"] * _bell(outside.clamp_min(0) / width)
    db = db + p["lesion"] * p["halo_db"] * _bell((outside - 0.22) / 0.17)
    db = db * (1 - cover) + cover * (-8 + p["echo_db"] + p["inner_db"] * (fine + 0.5 * lobules))
    db = db + p["lesion"] * p["rim_db"] * _bell(outside / 0.06)
    calcs = stack("calcs")
    spot_y = _bell((y - calcs[:, None, :, 1]) / (2**0.5 * calcs[:, None, :, 2]))
    spot_x = _bell((x.transpose(1, 2) - calcs[:, None, :, 0]) / (2**0.5 * calcs[:, None, :, 2]))
    db = db + p["lesion"] * (spot_y * calcs[:, None, :, 3]) @ spot_x.transpose(1, 2)

    # 3. attenuation along the beam: a cumulative sum over depth, so only what lies behind is changed
    rate = (
        p["posterior_times"] * p["posterior_db"] * cover / (2 * p["half_y"])
    )  # dB per mm inside the lesion
    sides = _bell(((x - p["x"]).abs() - p["half_x"]) / 0.7) * soft((y - p["y"]) / 0.5)
    rate = rate @ _mean_blur(
        p["beam_mm"] / mm, n
    )  # a beam is about a millimetre wide: shadows have soft sides
    if p["rib_db"].any():
        rib = p["rib_db"] * _bell((x - p["rib_x"]) / 5)
        db = db + 0.6 * rib * _bell((y - p["rib_y"]) / 0.6)
        rate = rate - rib * _bell((y - p["rib_y"] - 1) / 0.6)
    db = db + torch.cumsum(rate, 1) * mm - p["lesion"] * p["edge_shadow_db"] * sides
    db = db - p["contact_db"] * _bell((x - p["contact_x"]) / p["contact_w"])
    relative = y / p["field"]
    streaks = noise[:, 2, :1] @ _blur_matrices((2.0 / mm).flatten(), n).transpose(1, 2)
    db = db - p["streak_db"] * streaks.clamp_min(0) * relative.sqrt()
    tgc = _basis(n, 5).to(device) @ stack("tgc") @ _basis(n, 3).to(device).T
    db = db - p["loss_db"] * relative**1.5 + p["tgc_db"] * tgc + p["gain_db"]

    # 4. speckle: blur along the beam, then across it (wider away from the focus); average the looks' intensities
    speckle = noise[:, 3:] * torch.pow(10.0, db / 20)[:, None]
    speckle = _blur_matrices((p["axial"] / mm).flatten(), n)[:, None] @ speckle
    off_focus = ((y - p["focus"]).abs() / (0.6 * p["field"])).clamp(0, 1)[:, None]
    sharp = speckle @ _blur_matrices((p["lateral"] / mm).flatten(), n)[:, None].transpose(-1, -2)
    broad = speckle @ _blur_matrices((p["defocus"] * p["lateral"] / mm).flatten(), n)[
        :, None
    ].transpose(-1, -2)
    intensity = (sharp * (1 - off_focus) + broad * off_focus).square().sum(1) / (2 * p["looks"])

    # 5. log compression: WHITE_DB is white, WHITE_DB - range_db is black
    echo = 10 * torch.log10(intensity + 1e-9)
    wanted = WHITE_DB - p["range_db"] * (1 - p["exposure"])
    echo = echo + (p["exposure"] > 0) * (wanted - echo.mean((1, 2), keepdim=True))
    grey = (1 + (echo - WHITE_DB) / p["range_db"]).clamp(0, 1) ** p["gamma"]
    core = core.float()
    bent = p["convex"].flatten() > 0
    if bent.any():
        grey[bent], core[bent] = _sector(
            torch.stack([grey, core], 1)[bent], p["convex"][bent]
        ).unbind(1)
    if p["calipers"].any():
        grey = torch.maximum(grey, p["calipers"] * _calipers(x, y, p))
    down = _downsample(n, size).to(device)
    grey, core = down @ grey @ down.T, down @ core @ down.T
    return (grey * 255).round().clamp(0, 255).to(torch.uint8)[:, None].cpu(), (core > 0.5).cpu()


def simulate(
    draws: list[tuple[np.random.Generator, dict]],
    size: int,
    device: str = "cpu",
    batch: int | None = None,
):
    """Render many (generator, patient) pairs, `batch` at a time (default: what fits a processor's cache), on all cores.

    Returns images, torch uint8 (N, 1, size, size), and masks, torch bool (N, size, size).
    """
    grid, batch = size * 5 // 4, batch or max(1, 16 * 64**2 // size**2)

    def one_batch(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        return render(
            [draw_view(rng, patient, grid) for rng, patient in draws[start : start + batch]],
            size,
            device,
        )

    threads = torch.get_num_threads()
    try:  # batches side by side beat threads inside each small operation
        with ThreadPoolExecutor(
            max(2, threads), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            images, masks = zip(*pool.map(one_batch, range(0, len(draws), batch)))
    finally:
        torch.set_num_threads(threads)
    return torch.cat(images), torch.cat(masks)


def simulate_target(
    split: str,
    n_patients: int,
    size: int = 64,
    seed: int = 0,
    edit: Callable[[dict], None] | None = None,
) -> dict:
    """Patients of the target task: 1 to 4 images each, malignant with probability PREVALENCE.

    `split`: "train", "val" or "test", each its own stream of patients. `edit`: changes a patient (the dict of
    `draw_patient`) before her images are made, for counterfactuals: with and without the edit of `posterior_db`, `echo_db`,
    `halo` among the descriptors, `calipers` or `lesion`, the images are the same in everything else, speckle included.
    Returns a dict: images uint8 (N, 1, size, size),
    masks bool (N, size, size), labels int64 (N,) with 1 = malignant, patients str (N,), descriptors: name -> array (N,)
    (the six descriptors as indices, and size_mm, scanner).
    """
    draws, patients, people = [], [], []
    for number in range(n_patients):
        rng = random_stream("target", seed, _SPLITS[split], number)
        patient = draw_patient(rng, "target", malignant=bool(rng.random() < PREVALENCE))
        if edit is not None:
            edit(patient)
        for view in range(int(rng.integers(1, 5))):
            draws.append((random_stream("target", seed, _SPLITS[split], number, view), patient))
            patients.append(f"{split}-{seed}-{number:04d}")
            people.append(patient)
    images, masks = simulate(draws, size)
    descriptors = {k: np.array([p["descriptors"][k] for p in people]) for k in DESCRIPTORS}
    descriptors["size_mm"] = np.array([p["size_mm"] for p in people], np.float32)
    descriptors["scanner"] = np.array([p["scanner_name"] for p in people])
    labels = torch.tensor([int(p["malignant"]) for p in people])
    return {
        "images": images,
        "masks": masks,
        "labels": labels,
        "patients": np.array(patients),
        "descriptors": descriptors,
    }


def simulate_source(start: int, count: int, size: int = 64, seed: int = 0, device: str = "cpu"):
    """Images start .. start + count - 1 of the source task, each of another patient; 15 % show no lesion.

    Returns images uint8 (count, 1, size, size), masks bool (count, size, size) and targets int64 (count, 7): the six
    descriptors and whether there is a lesion (where there is none, the descriptors mean nothing).
    """
    draws, targets = [], []
    for number in range(start, start + count):
        rng = random_stream("source", seed, number)
        patient = draw_patient(rng, "source", None, lesion=bool(rng.random() > 0.15))
        draws.append((rng, patient))
        targets.append([*patient["descriptors"].values(), int(patient["lesion"])])
    images, masks = simulate(draws, size, device)
    return images, masks, torch.tensor(targets)
