"""Simulated breast ultrasound with known truth.

Patients, scanners, seven BI-RADS descriptors and lesion masks. How one image is made (all lengths
in mm, all echo strengths in dB):

1. an echogenicity map: skin, fat with Cooper ligaments, fibroglandular lobules, sheets of
   connective tissue, fascia, muscle;
2. a lesion drawn from its descriptors: contour R(angle), edge width L(angle), echo level, texture,
   rim, calcifications;
3. attenuation, added up along each beam *away from the probe*: so a shadow can only lie behind
   what casts it;
4. speckle: complex white noise times the map, blurred by the point-spread function, averaged over
   compounded looks, and reduced as the scanner does;
5. log compression to the scanner's dynamic range, gain, grey curve, and resampling to the
   requested size.

This file draws the numbers within what phantom_tables.py says; phantom_render.py makes the
picture, a function a step.

Descriptors after the ACR BI-RADS Ultrasound lexicon. Teaching material: the images resemble
ultrasound, they are not it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from .phantom_render import TEXTURES, render
from .phantom_tables import (
    CHANCES,
    DESCRIPTORS,
    EXTRAS,
    FIELD_MM,
    FOCUS,
    GAIN_DB,
    LOBULE_MM,
    PREVALENCE,
    SCANNER_GAP,
    TARGET_SCANNERS,
    WIDER,
    Scanner,
)
from .phantom_tables import best_auc as best_auc

VERSION = 2  # part of every cache name: raise it whenever an image of the target task changes

_STREAM = {"source": 1, "target": 2}  # first word of every random stream: no patient is in both
_SPLITS = {"train": 0, "val": 1, "test": 2}
_SHOWN = 3  # beside the splits: lesions made to order, which no task holds
_ANGLES = 256  # points of a contour
_CALCS = 14  # calcifications at most


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
            rng.uniform(0.15, 0.80),
            rng.uniform(0.10, 0.40),
            int(rng.integers(1, 7)),
            rng.uniform(36, 66),
            rng.uniform(0.8, 1.9),
            rng.uniform(2, 40),
            rng.uniform(0.0, 0.95),
        )
        position = scanner.position()
        if min(np.abs(position - target).max() for target in targets) > SCANNER_GAP:
            return scanner


def draw_descriptors(rng: np.random.Generator, malignant: bool | None) -> dict[str, int]:
    """One value for each descriptor: by CHANCES given the class, or all equally often for None.

    The source task uses None: its descriptors carry no trace of malignancy, not even through their
    correlation.
    """
    drawn = {}
    for names, by_class in CHANCES.items():
        shape = by_class[0].shape
        chances = None if malignant is None else by_class[int(malignant)].ravel()
        at = np.unravel_index(rng.choice(int(np.prod(shape)), p=chances), shape)
        drawn |= dict(zip(names, map(int, at)))
    return drawn


def draw_patient(
    rng: np.random.Generator,
    kind: str,
    malignant: bool | None = None,
    lesion: bool = True,
    descriptors: dict[str, int] | None = None,
) -> dict:
    """What stays the same over all images of one woman: scanner, tissue, lesion with descriptors.

    `kind`: "source" or "target". `descriptors`: values to have instead of those that are drawn.
    Returns a dict of plain numbers, to be passed to `draw_view`.
    """
    names = list(TARGET_SCANNERS)
    field_mm = rng.uniform(*FIELD_MM[kind])
    low, high = LOBULE_MM[kind][rng.integers(len(LOBULE_MM[kind]))]
    scanner_name = names[rng.integers(3)] if kind == "target" else "source"
    descriptors = draw_descriptors(rng, malignant) | (descriptors or {})
    return {
        "kind": kind,
        "malignant": malignant,
        "lesion": lesion,
        "scanner_name": scanner_name,
        "scanner": TARGET_SCANNERS[scanner_name] if kind == "target" else draw_scanner(rng),
        "field_mm": field_mm,
        "lobule_mm": rng.uniform(low, high),
        **_draw_tissue(rng),
        "descriptors": descriptors,
        **_draw_lesion(rng, descriptors, field_mm),
        **_draw_wider(rng, kind),
    }


def _draw_tissue(rng: np.random.Generator) -> dict:
    """Thickness (mm) and echo strength (dB) of the layers, and how they are bent."""
    return {
        "fat_mm": rng.uniform(2.0, 13.0),
        "gland_mm": rng.uniform(8.0, 30.0),
        "gland_db": rng.uniform(2.0, 9.0),
        "lobule_db": rng.uniform(1.5, 4.0),
        "ligament_db": rng.uniform(2.0, 10.0),
        "fascia_db": rng.uniform(4.0, 14.0),
        "deep_mm": rng.uniform(6.0, 40.0),
        "layer_bumps": rng.standard_normal((4, 5)),
    }


def _draw_lesion(rng: np.random.Generator, descriptors: dict[str, int], field_mm: float) -> dict:
    """Size, echo strengths and irregularity of a lesion, as its descriptors demand.

    One number is drawn for every value of a descriptor, whichever is kept: so two lesions that
    differ in one descriptor agree in everything else.
    """
    value = {name: DESCRIPTORS[name][k] for name, k in descriptors.items()}
    size_mm = field_mm * float(np.exp(rng.uniform(np.log(0.17), np.log(0.65))))
    # height over width; a round lesion is only just taller or wider
    wider = {"oval": (0.45, 0.78), "round": (0.86, 0.97), "irregular": (0.5, 0.85)}[value["shape"]]
    ratio = rng.uniform(*wider)
    if value["orientation"] == "not parallel":
        ratio = 1 / ratio if value["shape"] == "round" else 1 / ratio**0.7
    hypo, iso, black = rng.uniform(9, 18), rng.uniform(1, 4), rng.uniform(22, 34)
    lesion_db = {
        "hypoechoic": hypo,
        "isoechoic": iso,
        "anechoic": black,
        "heterogeneous": 0.7 * hypo,
    }
    fine_db, blotch_db = rng.uniform(0.5, 2.0), rng.uniform(3.0, 6.0)
    # dB gained or lost by the beam over its whole way through the lesion
    posterior_db = (rng.uniform(-1, 1), rng.uniform(5, 12), -rng.uniform(10, 24))
    return {
        "size_mm": size_mm,  # the longer axis
        "ratio": ratio,
        "echo_db": -lesion_db[value["echo"]],
        "inner_db": 0.3 if value["echo"] == "anechoic" else fine_db,
        "blotch_db": blotch_db if value["echo"] == "heterogeneous" else 0.0,
        "posterior_db": posterior_db[descriptors["posterior"]],
        "wobble": rng.standard_normal(12),
        "phase": rng.uniform(0, 2 * np.pi, 12),
        "spicules": rng.uniform(0, 2 * np.pi, rng.integers(7, 13)),
    }


def _draw_wider(rng: np.random.Generator, kind: str) -> dict[str, float]:
    """The numbers of WIDER and EXTRAS, from the ranges of source or target."""
    which = ("source", "target").index(kind)
    wider = {name: rng.uniform(*ranges[which]) for name, ranges in WIDER.items()}
    extras = {
        name: rng.uniform(*strength) * (rng.random() < chances[which])
        for name, (chances, strength) in EXTRAS.items()
    }
    return wider | extras


# ---- views --------------------------------------------------------------------------------------

# numbers of a patient that `render` reads as they are
_OF_THE_PATIENT = (
    *("field_mm", "lobule_mm", "fat_mm", "gland_mm", "deep_mm"),
    *("gland_db", "lobule_db", "ligament_db", "fascia_db"),
    *("echo_db", "inner_db", "blotch_db", "posterior_db"),
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
    layers = TEXTURES + 2 * patient["scanner"].looks
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
    ratio = patient["ratio"] * rng.uniform(0.97, 1.03)
    half_x, half_y = (size / 2, size / 2 * ratio) if ratio < 1 else (size / 2 / ratio, size / 2)
    x = half_x + (field - 2 * half_x) * rng.uniform(0.05, 0.95)
    top, bottom = half_y + 2.5, max(half_y + 3.0, 0.68 * field - 0.5 * half_y)
    y = top + (bottom - top) * rng.beta(1.3, 2.2)
    return {"x": x, "y": y, "half_x": half_x, "half_y": half_y}


def _contour(rng: np.random.Generator, patient: dict) -> tuple[np.ndarray, np.ndarray]:
    """Radius R and edge width L over the angle, in units of the half axes; shape (256,) each.

    The shape gives the long waves of the contour, the margin what happens at the edge.
    """
    angle = np.linspace(-np.pi, np.pi, _ANGLES, endpoint=False)
    # each view cuts the lesion in another plane
    wobble = patient["wild"] * (patient["wobble"] + 0.25 * rng.standard_normal(12)).clip(-2, 2)
    wave = np.stack([wobble[k] * np.cos((k + 2) * angle + patient["phase"][k]) for k in range(12)])
    shape = DESCRIPTORS["shape"][patient["descriptors"]["shape"]]
    long_waves = {"oval": 0.03 * wave[:2].sum(0), "round": 0.02 * wave[1:3].sum(0)}
    irregular = 0.13 * wave[:2].sum(0) + 0.09 * wave[2:4].sum(0)
    radius = 1 + long_waves.get(shape, irregular)
    margin = DESCRIPTORS["margin"][patient["descriptors"]["margin"]]
    change, edge = _margin(margin, angle, wobble, wave, patient, rng)
    return np.clip(radius + change, 0.35, 1.7), np.clip(edge, 0.03, 1.5)


def _margin(
    margin: str,
    angle: np.ndarray,
    wobble: np.ndarray,
    wave: np.ndarray,
    patient: dict,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """What a margin adds to the radius, and its edge width, (256,) each."""
    away = lambda at: np.angle(np.exp(1j * (angle - at)))
    moved = rng.normal(0, 0.08, len(patient["spicules"]))
    if margin == "circumscribed":  # smooth and sharp
        return np.zeros(_ANGLES), np.full(_ANGLES, 0.05)
    if margin == "microlobulated":  # short scallops, sharp
        lobes = 6 + int(abs(patient["wobble"][11]) * 3) % 4
        scallops = np.abs(np.cos(0.5 * lobes * (angle + 0.18 * wave[0]) + patient["phase"][0]))
        return 0.17 * scallops * (0.7 + 0.2 * wave[1].clip(-2, 2)) - 0.1, np.full(_ANGLES, 0.07)
    if margin == "indistinct":  # the edge fades into the tissue
        return 0.04 * wave[2:5].sum(0) - 0.05, 0.3 + 0.15 * np.abs(wave[5])
    if margin == "angular":  # a few sharp corners
        corners = patient["spicules"][: 3 + int(abs(patient["wobble"][11]) * 2) % 3]
        spikes = [np.exp(-np.abs(away(at + d)) / 0.28) for at, d in zip(corners, moved)]
        return 0.5 * np.max(spikes, 0) - 0.15, np.full(_ANGLES, 0.08)
    edge = np.full(_ANGLES, 0.10)  # spiculated: thin lines that leave the core
    for k, at in enumerate(patient["spicules"] + moved):
        length = 0.5 + 0.25 * abs(wobble[k % 12])
        edge = edge + length * np.exp(-((away(at) / 0.075) ** 2))
    return 0.03 * wave[3:6].sum(0) - 0.15, edge


def _draw_calcifications(rng: np.random.Generator, patient: dict, place: dict) -> np.ndarray:
    """(14, 4): x, y, sigma (mm) and strength (dB) of each; strength 0 for those that are not."""
    angle = rng.uniform(0, 2 * np.pi, _CALCS)
    reach = 0.85 * np.sqrt(rng.uniform(0, 1, _CALCS))
    calcs = np.zeros((_CALCS, 4))
    if patient["descriptors"]["calcifications"]:
        count = rng.integers(5, _CALCS + 1)
        x = place["x"] + place["half_x"] * reach * np.cos(angle)
        y = place["y"] + place["half_y"] * reach * np.sin(angle)
        sigma, strength = rng.uniform(0.2, 0.5, _CALCS), rng.uniform(10, 24, _CALCS)
        calcs[:count] = np.stack([x, y, sigma, strength], 1)[:count]
    calcs[:, 2] = np.maximum(calcs[:, 2], 0.3)  # nobody divides by a sigma of 0
    return calcs


def _draw_appearance(rng: np.random.Generator, patient: dict) -> dict[str, float]:
    """How the lesion looks in this view: tilt (radians), halo, rim and edge shadow (dB)."""
    sharp = patient["descriptors"]["margin"] == 0
    return {
        "tilt": rng.normal(0, 0.12),
        "lesion": float(patient["lesion"]),
        "halo_db": rng.uniform(4, 8) * patient["descriptors"]["halo"],
        "rim_db": rng.uniform(1, 5) * sharp,
        "edge_shadow_db": rng.uniform(0, 6) * sharp * (rng.random() < 0.5),
    }


def _draw_machine(rng: np.random.Generator, patient: dict) -> dict[str, float]:
    """The scanner's settings, and its knobs as they stand in this view."""
    scanner, field = patient["scanner"], patient["field_mm"]
    return {
        "lateral_mm": scanner.lateral_mm,
        "axial_mm": scanner.axial_mm,
        "looks": scanner.looks,
        "range_db": scanner.range_db * rng.uniform(0.92, 1.08),
        "gamma": scanner.gamma * rng.uniform(0.9, 1.1),
        "loss_db": scanner.depth_loss_db + rng.normal(0, 6),
        "smoothing": scanner.smoothing,
        "focus_mm": field * rng.uniform(*FOCUS[patient["kind"]]),
        "gain_db": rng.normal(GAIN_DB, 3.0),
    }


def _draw_artefacts(rng: np.random.Generator, patient: dict) -> dict[str, float]:
    """Contact, reverberation, skin and muscle; where a fat lobule and a rib lie."""
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


def likelihood_ratio(descriptors: dict[str, int | np.ndarray]) -> float | np.ndarray:
    """P(descriptors | malignant) / P(descriptors | benign), by CHANCES.

    `descriptors`: name -> index of its value, or integers (N,) for N lesions; all seven names.
    Returns one number, or float64 (N,).
    """
    ratio = 1.0
    for names, (benign, malignant) in CHANCES.items():
        at = tuple(descriptors[name] for name in names)
        ratio = ratio * (malignant[at] / benign[at])
    return ratio


def simulate_lesion(
    descriptors: dict[str, int], seed: int = 0, size: int = 64
) -> tuple[torch.Tensor, torch.Tensor]:
    """One lesion made to order: its descriptors as given, all else as the seed draws it.

    `descriptors`: name -> index of its value; a name that is missing has value 0. Two calls that
    differ in one descriptor differ in nothing else, speckle included. Returns the image, torch
    uint8 (1, size, size), and the mask, torch bool (size, size).
    """
    wanted = dict.fromkeys(DESCRIPTORS, 0) | descriptors
    calcified = wanted | {"calcifications": 1}  # their places are drawn in any case
    patient = draw_patient(
        random_stream("target", seed, _SHOWN), "target", malignant=False, descriptors=calcified
    )
    view = draw_view(random_stream("target", seed, _SHOWN, 0), patient, size * 5 // 4)
    view["calcs"][:, 3] *= wanted["calcifications"]
    images, masks = render([view], size, "cpu")
    return images[0], masks[0]


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
    with 1 = malignant, patients str (N,), descriptors: name -> array (N,) (the seven descriptors as
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
    (count, size, size) and targets int64 (count, 8): the seven descriptors and whether there is a
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
