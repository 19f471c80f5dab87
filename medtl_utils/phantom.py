"""Simulated breast ultrasound with known truth.

Patients, scanners, six BI-RADS descriptors and lesion masks. How one image is made (all lengths in
mm, all echo strengths in dB):

1. an echogenicity map: skin, fat with Cooper ligaments, fibroglandular lobules, fascia, muscle;
2. a lesion drawn from its descriptors: contour R(angle), edge width L(angle), echo level, rim,
   calcifications;
3. attenuation, added up along each beam *away from the probe*: so a shadow can only lie behind
   what casts it;
4. speckle: complex white noise times the map, blurred by the point-spread function, averaged over
   compounded looks;
5. log compression to the scanner's dynamic range, gain, grey curve, and resampling to the
   requested size.

This file draws the numbers; medtl_utils/phantom_render.py makes the picture, a function a step.

Descriptors after the ACR BI-RADS Ultrasound lexicon. Teaching material: the images resemble
ultrasound, they are not it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from .phantom_render import render

VERSION = 1  # part of every cache name: raise it whenever an image of the target task changes

DESCRIPTORS: dict[str, tuple[str, ...]] = {
    "margin": ("circumscribed", "microlobulated", "indistinct", "spiculated"),
    "orientation": ("parallel", "not parallel"),
    "echo": ("hypoechoic", "isoechoic", "anechoic"),
    "posterior": ("none", "enhancement", "shadow"),
    "calcifications": ("absent", "present"),
    "halo": ("absent", "present"),
}

# P(value | benign), P(value | malignant). Margin (circumscribed, spiculated) and orientation are
# counts of Hong et al., "BI-RADS for sonography", AJR 184 (2005) 1260: 262 benign and 141
# malignant masses; circumscribed 160 and 18, spiculated 3 and 19, not parallel 34 and 75. For the
# rest the lexicon gives the direction and the sizes are assumptions, set so that the best possible
# AUC from the descriptors (`best_auc`) is about .96.
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
    """Settings of one machine: point-spread function (sigma), looks, range and grey curve."""

    lateral_mm: float
    axial_mm: float
    looks: int  # images averaged into one (spatial compounding)
    range_db: float
    gamma: float
    depth_loss_db: float

    def position(self) -> np.ndarray:
        """The settings scaled to about 0..1 each, to compare distances between scanners."""
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


# The target's machines. No source image is made within SCANNER_GAP of any of them
# (see `draw_scanner`).
TARGET_SCANNERS: dict[str, Scanner] = {
    "A": Scanner(0.45, 0.20, 4, 52.0, 1.3, 28.0),
    "B": Scanner(0.70, 0.30, 2, 58.0, 1.1, 36.0),
    "C": Scanner(0.35, 0.16, 5, 44.0, 1.4, 22.0),
}
SCANNER_GAP = 0.15
# Size of the fibroglandular lobules, a property of the patient: the source never sees the target's.
LOBULE_MM = {"source": ((1.2, 3.0), (4.5, 8.0)), "target": ((3.0, 4.5),)}
FIELD_MM = {"source": (28.0, 55.0), "target": (40.0, 40.0)}  # width = depth of the picture
FOCUS = {"source": (0.1, 0.9), "target": (0.25, 0.65)}  # depth of the focus, share of the field

# What source images vary in beyond the target's machines and tissue: (range in the source, the one
# value in the target). A source that has seen more than it will meet.
WIDER: dict[str, tuple[tuple[float, float], float]] = {
    # width of the attenuated beams: spatial compounding makes shadows wide and soft
    "beam_mm": ((0.7, 4.0), 1.0),
    # unevenness of the time-gain compensation
    "tgc_db": ((0.8, 3.5), 1.6),
    # how many times wider the beam is away from the focus
    "defocus": ((1.5, 3.5), 2.2),
    # strength of shadow and enhancement
    "posterior_times": ((0.7, 1.6), 1.0),
    # long, wavy bright layers of connective tissue, and their distance
    "lamella_db": ((0.0, 14.0), 0.0),
    "lamella_mm": ((1.4, 4.5), 1.0),
    # vertical streaks: shadows of ligaments near the skin
    "streak_db": ((0.0, 9.0), 0.0),
    # where the operator's gain puts the mean echo between black and white; 0: as it comes
    "exposure": ((0.32, 0.52), 0.0),
    # irregularity of the contour
    "wild": ((1.0, 2.6), 1.0),
    # bending of the lesion with the tissue
    "warp": ((0.0, 0.22), 0.0),
}
# Things that only some source images have, independent of every descriptor: probability, and the
# range of their strength.
EXTRAS: dict[str, tuple[float, tuple[float, float]]] = {
    "convex": (0.06, (0.2, 0.5)),  # curved probe: half of the sector's opening, radians
    "lobule_like": (0.35, (-9.0, -3.0)),  # a fat lobule that could be taken for a lesion, dB
    "rib_db": (0.15, (12.0, 30.0)),  # a rib at depth: bright, with its shadow
    "calipers": (0.12, (1.0, 1.0)),  # the two marks that a reader sets to measure; 1 = white
}
_STREAM = {"source": 1, "target": 2}  # first word of every random stream: no patient is in both
_SPLITS = {"train": 0, "val": 1, "test": 2}
_ANGLES = 256  # points of a contour
_CALCS = 14  # calcifications at most


def best_auc(likelihoods: dict = LIKELIHOODS) -> float:
    """The AUC of the exact likelihood ratio over all descriptor combinations.

    No reader of the descriptors does better. `likelihoods`: as LIKELIHOODS. Returns a float in
    0.5..1; ties count one half.
    """
    benign, malignant = (
        np.array([np.prod(c) for c in itertools.product(*(p[k] for p in likelihoods.values()))])
        for k in (0, 1)
    )
    order = np.argsort(malignant / np.maximum(benign, 1e-300), kind="stable")
    benign, malignant = benign[order], malignant[order]
    return float(np.sum(malignant * (np.cumsum(benign) - 0.5 * benign)))


def random_stream(kind: str, seed: int, *more: int) -> np.random.Generator:
    """An independent random generator for one patient or view.

    Equal arguments give equal numbers on every machine. `kind`: "source" or "target".
    """
    words = np.random.SeedSequence([_STREAM[kind], seed, *more])
    return np.random.Generator(np.random.PCG64(words))


# ---- patients: the order of the draws fixes the images, so it must stay -------------------------


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """A scanner for a source image: wide ranges, but not within SCANNER_GAP of a target scanner."""
    targets = [scanner.position() for scanner in TARGET_SCANNERS.values()]
    while True:
        scanner = Scanner(
            rng.uniform(0.25, 0.90),
            rng.uniform(0.12, 0.42),
            int(rng.integers(1, 7)),
            rng.uniform(42, 70),
            rng.uniform(0.8, 1.9),
            rng.uniform(4, 48),
        )
        position = scanner.position()
        if min(np.abs(position - target).max() for target in targets) > SCANNER_GAP:
            return scanner


def draw_descriptors(rng: np.random.Generator, malignant: bool | None) -> dict[str, int]:
    """One value for each descriptor: by LIKELIHOODS given the class, or all equally often for None.

    The source task uses None: its descriptors carry no trace of malignancy, not even through their
    correlation.
    """
    drawn = {}
    for name, values in DESCRIPTORS.items():
        chances = None if malignant is None else LIKELIHOODS[name][int(malignant)]
        drawn[name] = int(rng.choice(len(values), p=chances))
    return drawn


def draw_patient(
    rng: np.random.Generator, kind: str, malignant: bool | None = None, lesion: bool = True
) -> dict:
    """What stays the same over all images of one woman: scanner, tissue, lesion with descriptors.

    `kind`: "source" or "target". Returns a dict of plain numbers, to be passed to `draw_view`.
    """
    names = list(TARGET_SCANNERS)
    low, high = LOBULE_MM[kind][rng.integers(len(LOBULE_MM[kind]))]
    scanner_name = names[rng.integers(3)] if kind == "target" else "source"
    descriptors = draw_descriptors(rng, malignant)
    return {
        "kind": kind,
        "malignant": malignant,
        "lesion": lesion,
        "scanner_name": scanner_name,
        "scanner": TARGET_SCANNERS[scanner_name] if kind == "target" else draw_scanner(rng),
        "field_mm": rng.uniform(*FIELD_MM[kind]),
        "lobule_mm": rng.uniform(low, high),
        **_draw_tissue(rng),
        "descriptors": descriptors,
        **_draw_lesion(rng, descriptors),
        **_draw_wider(rng, kind),
    }


def _draw_tissue(rng: np.random.Generator) -> dict:
    """Thickness (mm) and echo strength (dB) of the layers, and how they are bent."""
    return {
        "fat_mm": rng.uniform(2.0, 13.0),
        "gland_mm": rng.uniform(10.0, 32.0),
        "gland_db": rng.uniform(2.0, 8.0),
        "lobule_db": rng.uniform(2.0, 5.5),
        "ligament_db": rng.uniform(2.0, 9.0),
        "fascia_db": rng.uniform(4.0, 13.0),
        "sheet_mm": rng.uniform(6.0, 40.0),
        "layer_bumps": rng.standard_normal((4, 5)),
    }


def _draw_lesion(rng: np.random.Generator, descriptors: dict[str, int]) -> dict:
    """Size, echo strengths and irregularity of a lesion, as its descriptors demand.

    One number is drawn for every echo and posterior value, whichever is kept: so two lesions that
    differ in one descriptor agree in everything else.
    """
    taller = descriptors["orientation"] == 1
    anechoic = descriptors["echo"] == 2
    size_mm = float(np.exp(rng.uniform(np.log(7), np.log(24))))
    ratio = rng.uniform(1.15, 1.6) if taller else rng.uniform(0.5, 0.82)
    echo_db = (-rng.uniform(9, 16), -rng.uniform(3, 6), -rng.uniform(22, 32))
    inner_db = 0.3 if anechoic else rng.uniform(0.6, 2.4)
    # dB gained or lost by the beam over its whole way through the lesion
    posterior_db = (rng.uniform(-1, 1), rng.uniform(5, 10), -rng.uniform(12, 24))
    return {
        "size_mm": size_mm,  # the longer axis
        "ratio": ratio,  # height over width
        "echo_db": echo_db[descriptors["echo"]],
        "inner_db": inner_db,
        "posterior_db": posterior_db[descriptors["posterior"]],
        "wobble": rng.standard_normal(12),
        "phase": rng.uniform(0, 2 * np.pi, 12),
        "spicules": rng.uniform(0, 2 * np.pi, rng.integers(7, 13)),
    }


def _draw_wider(rng: np.random.Generator, kind: str) -> dict[str, float]:
    """The numbers of WIDER and EXTRAS: drawn for the source, fixed for the target."""
    if kind == "target":
        return {name: fixed for name, (_, fixed) in WIDER.items()} | dict.fromkeys(EXTRAS, 0.0)
    wider = {name: rng.uniform(*wide) for name, (wide, _) in WIDER.items()}
    extras = {
        name: rng.uniform(*strength) * (rng.random() < probability)
        for name, (probability, strength) in EXTRAS.items()
    }
    return wider | extras


# ---- views --------------------------------------------------------------------------------------

# numbers of a patient that `render` reads as they are
_OF_THE_PATIENT = (
    *("field_mm", "lobule_mm", "fat_mm", "gland_mm", "sheet_mm"),
    *("gland_db", "lobule_db", "ligament_db", "fascia_db", "echo_db", "inner_db", "posterior_db"),
)


def draw_view(rng: np.random.Generator, patient: dict, grid: int) -> dict:
    """One image of a patient: probe position, contour in this plane, machine knobs and noise.

    `grid`: rows = columns of the simulation grid. Returns a dict of float32 arrays, which `render`
    reads, and "names", the names of the entries of "numbers".
    """
    place = _draw_place(rng, patient)
    radius, edge = _contour(rng, patient)
    calcs = _draw_calcifications(rng, patient, place)
    contact_db = rng.uniform(4, 14) if rng.random() < 0.12 else 0.0
    layers = 3 + 2 * patient["scanner"].looks  # lobules, fine texture, ligaments, looks
    noise = rng.standard_normal((layers, grid, grid), dtype=np.float32)
    numbers = {
        **{name: patient[name] for name in (*_OF_THE_PATIENT, *WIDER, *EXTRAS)},
        **place,
        **_draw_appearance(rng, patient),
        **_draw_machine(rng, patient),
        "contact_db": contact_db,  # a part of the probe without contact
        **_draw_artefacts(rng, patient),
    }
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


def _draw_place(rng: np.random.Generator, patient: dict) -> dict[str, float]:
    """Centre and half axes of the lesion in this view, in mm."""
    field = patient["field_mm"]
    size = patient["size_mm"] * rng.uniform(0.92, 1.08)
    ratio = patient["ratio"] * rng.uniform(0.94, 1.06)
    size = min(size, 0.62 * field)
    half_x, half_y = (size / 2, size / 2 * ratio) if ratio < 1 else (size / 2 / ratio, size / 2)
    x = field * rng.uniform(0.34, 0.66)
    y = half_y * 1.15 + 3.0 + (0.62 * field - half_y - 3.0) * rng.uniform(0.0, 0.55)
    return {"x": x, "y": y, "half_x": half_x, "half_y": half_y}


def _contour(rng: np.random.Generator, patient: dict) -> tuple[np.ndarray, np.ndarray]:
    """Radius R and edge width L over the angle, in units of the half axes; shape (256,) each."""
    angle = np.linspace(-np.pi, np.pi, _ANGLES, endpoint=False)
    # each view cuts the lesion in another plane
    wobble = patient["wild"] * (patient["wobble"] + 0.25 * rng.standard_normal(12))
    wave = np.stack([wobble[k] * np.cos((k + 2) * angle + patient["phase"][k]) for k in range(12)])
    margin = DESCRIPTORS["margin"][patient["descriptors"]["margin"]]
    if margin == "circumscribed":  # smooth and sharp
        radius, edge = 1 + 0.035 * wave[:2].sum(0).clip(-4, 4), np.full(_ANGLES, 0.05)
    elif margin == "microlobulated":  # short scallops, sharp
        lobes = 6 + int(abs(patient["wobble"][11]) * 3) % 4
        scallops = np.abs(np.cos(0.5 * lobes * (angle + 0.18 * wave[0]) + patient["phase"][0]))
        scallops = scallops * (0.6 + 0.3 * wave[1])
        radius, edge = 0.92 + 0.05 * wave[:3].sum(0) + 0.16 * scallops, np.full(_ANGLES, 0.07)
    elif margin == "indistinct":  # irregular, and the edge fades into the tissue
        radius, edge = 0.95 + 0.05 * wave[:5].sum(0), 0.32 + 0.12 * np.abs(wave[5])
    else:  # spiculated: thin lines that leave an irregular core
        radius, edge = 0.85 + 0.05 * wave[:6].sum(0), np.full(_ANGLES, 0.10)
        spicules = patient["spicules"] + rng.normal(0, 0.08, len(patient["spicules"]))
        for k, at in enumerate(spicules):
            away = np.angle(np.exp(1j * (angle - at)))
            length = 0.5 + 0.3 * abs(wobble[k % 12])
            edge = edge + length * np.exp(-((away / 0.075) ** 2))
    return np.clip(radius, 0.45, 1.6), np.clip(edge, 0.03, 1.5)


def _draw_calcifications(rng: np.random.Generator, patient: dict, place: dict) -> np.ndarray:
    """(14, 4): x, y, sigma (mm) and strength (dB) of each; strength 0 for those that are not."""
    angle = rng.uniform(0, 2 * np.pi, _CALCS)
    reach = 0.85 * np.sqrt(rng.uniform(0, 1, _CALCS))
    calcs = np.zeros((_CALCS, 4))
    if patient["descriptors"]["calcifications"]:
        count = rng.integers(5, _CALCS + 1)
        x = place["x"] + place["half_x"] * reach * np.cos(angle)
        y = place["y"] + place["half_y"] * reach * np.sin(angle)
        sigma, strength = rng.uniform(0.30, 0.55, _CALCS), rng.uniform(16, 28, _CALCS)
        calcs[:count] = np.stack([x, y, sigma, strength], 1)[:count]
    calcs[:, 2] = np.maximum(calcs[:, 2], 0.3)  # nobody divides by a sigma of 0
    return calcs


def _draw_appearance(rng: np.random.Generator, patient: dict) -> dict[str, float]:
    """How the lesion looks in this view: tilt (radians), halo, rim and edge shadow (dB)."""
    sharp = patient["descriptors"]["margin"] == 0
    return {
        "tilt": rng.normal(0, 0.12),
        "lesion": float(patient["lesion"]),
        "halo_db": rng.uniform(6, 9) * patient["descriptors"]["halo"],
        "rim_db": rng.uniform(2, 5) * sharp,
        "edge_shadow_db": rng.uniform(0, 6) * sharp * (rng.random() < 0.5),
    }


def _draw_machine(rng: np.random.Generator, patient: dict) -> dict[str, float]:
    """The scanner's settings, and its knobs as they stand in this view."""
    scanner, field = patient["scanner"], patient["field_mm"]
    return {
        "lateral_mm": scanner.lateral_mm,
        "axial_mm": scanner.axial_mm,
        "looks": scanner.looks,
        "range_db": scanner.range_db,
        "gamma": scanner.gamma * rng.uniform(0.9, 1.1),
        "loss_db": scanner.depth_loss_db + rng.normal(0, 3),
        "focus_mm": field * rng.uniform(*FOCUS[patient["kind"]]),
        "gain_db": rng.normal(0, 3.0),
    }


def _draw_artefacts(rng: np.random.Generator, patient: dict) -> dict[str, float]:
    """Contact, reverberation, skin and muscle; where source images have a fat lobule and a rib."""
    field = patient["field_mm"]
    numbers = {
        "contact_x": rng.uniform(0, field),
        "contact_mm": rng.uniform(1.5, 5.0),
        "reverb_db": rng.uniform(3, 9) * (rng.random() < 0.4),
        "reverb_mm": rng.uniform(1.2, 2.6),
        "skin_mm": rng.uniform(1.0, 2.2),
        "striae_db": rng.uniform(0.5, 3.0),
        "striae_mm": rng.uniform(1.2, 2.8),
    }
    fat, half, rib = np.zeros(2), np.zeros(2), np.zeros(2)
    if patient["kind"] == "source":
        fat = field * rng.uniform((0.1, 0.25), (0.9, 0.8))
        half = rng.uniform((4, 2), (9, 5))
        rib = field * rng.uniform((0.1, 0.6), (0.9, 0.95))
    numbers |= {"fat_x": fat[0], "fat_y": fat[1], "fat_half_x": half[0], "fat_half_y": half[1]}
    return numbers | {"rib_x": rib[0], "rib_y": rib[1]}


# ---- data sets ----------------------------------------------------------------------------------


def simulate(
    draws: list[tuple[np.random.Generator, dict]],
    size: int,
    device: str = "cpu",
    batch: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Render many (generator, patient) pairs on all cores.

    `batch`: images at a time; default: what fits a processor's cache. Returns images, torch uint8
    (N, 1, size, size), and masks, torch bool (N, size, size).
    """
    grid, batch = size * 5 // 4, batch or max(1, 16 * 64**2 // size**2)

    def one_batch(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = draws[start : start + batch]
        return render([draw_view(rng, patient, grid) for rng, patient in part], size, device)

    threads = torch.get_num_threads()
    try:  # batches side by side beat threads inside each small operation
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
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

    `split`: "train", "val" or "test", each its own stream of patients. `edit`: changes a patient
    (the dict of `draw_patient`) before her images are made, for counterfactuals: with and without
    the edit of `posterior_db`, `echo_db`, `halo` among the descriptors, `calipers` or `lesion`,
    the images are the same in everything else, speckle included.

    Returns a dict: images uint8 (N, 1, size, size), masks bool (N, size, size), labels int64 (N,)
    with 1 = malignant, patients str (N,), descriptors: name -> array (N,) (the six descriptors as
    indices, and size_mm, scanner).
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


def simulate_source(
    start: int, count: int, size: int = 64, seed: int = 0, device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images start .. start + count - 1 of the source task, each of another patient.

    15 % show no lesion. Returns images uint8 (count, 1, size, size), masks bool
    (count, size, size) and targets int64 (count, 7): the six descriptors and whether there is a
    lesion (where there is none, the descriptors mean nothing).
    """
    draws, targets = [], []
    for number in range(start, start + count):
        rng = random_stream("source", seed, number)
        patient = draw_patient(rng, "source", None, lesion=bool(rng.random() > 0.15))
        draws.append((rng, patient))
        targets.append([*patient["descriptors"].values(), int(patient["lesion"])])
    images, masks = simulate(draws, size, device)
    return images, masks, torch.tensor(targets)
