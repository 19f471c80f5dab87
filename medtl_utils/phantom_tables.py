"""What the simulator assumes: descriptors and how often they occur, machines, and all ranges.

Lengths in mm, echo strengths in dB.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

DESCRIPTORS: dict[str, tuple[str, ...]] = {
    "shape": ("oval", "round", "irregular"),
    "margin": ("circumscribed", "microlobulated", "indistinct", "angular", "spiculated"),
    "orientation": ("parallel", "not parallel"),
    "echo": ("hypoechoic", "isoechoic", "anechoic", "heterogeneous"),
    "posterior": ("none", "enhancement", "shadow"),
    "calcifications": ("absent", "present"),
    "halo": ("absent", "present"),
}

# How often benign and malignant lesions show what: counts, (benign, malignant). Orientation apart:
# BrEaST, 154 benign and 98 malignant lesions (Pawłowska et al., Scientific Data 11 (2024) 148; the
# table ships as breast_lesions_usg.csv). Shape and margin hang together within a class, so they are
# counted together, a row a shape, a column a margin; of several margins the one most suspicious
# counts (spiculated, angular, microlobulated, indistinct). Hyperechoic counts as isoechoic, complex
# as heterogeneous, combined posterior features as a shadow. Orientation: Hong et al., "BI-RADS for
# sonography", AJR 184 (2005) 1260, 262 benign and 141 malignant masses.
COUNTS: dict[tuple[str, ...], tuple[list, list]] = {
    ("shape", "margin"): (
        [[86, 1, 5, 0, 0], [12, 1, 0, 1, 0], [14, 4, 20, 5, 5]],
        [[2, 0, 3, 0, 0], [0, 1, 0, 0, 0], [1, 14, 24, 25, 28]],
    ),
    ("orientation",): ([228, 34], [66, 75]),
    ("echo",): ([73, 21, 15, 45], [75, 0, 0, 23]),
    ("posterior",): ([108, 26, 20], [51, 10, 37]),
    ("calcifications",): ([145, 9], [80, 18]),
    ("halo",): ([144, 10], [53, 45]),
}


def _chances(counts: list) -> np.ndarray:
    """Counts as probabilities, half a count added to each (Jeffreys): nothing is impossible."""
    counts = np.asarray(counts, np.float64) + 0.5
    return counts / counts.sum()


# P(values | benign), P(values | malignant) for each group of descriptors
CHANCES = {names: tuple(map(_chances, counts)) for names, counts in COUNTS.items()}
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
    smoothing: float  # speckle reduction: 0 none, 1 no speckle left

    def position(self) -> np.ndarray:
        """The settings scaled to about 0..1 each, to compare distances between scanners."""
        return np.array(
            [
                (self.lateral_mm - 0.15) / 0.65,
                (self.axial_mm - 0.10) / 0.3,
                (self.looks - 1) / 5,
                (self.range_db - 38) / 26,
                (self.gamma - 0.8) / 1.1,
                (self.depth_loss_db - 6) / 52,
                self.smoothing,
            ]
        )


# The target's machines. No source image is made within SCANNER_GAP of any of them
# (see `draw_scanner`).
TARGET_SCANNERS: dict[str, Scanner] = {
    "A": Scanner(0.26, 0.16, 4, 50.0, 1.2, 20.0, 0.45),
    "B": Scanner(0.38, 0.20, 2, 56.0, 1.1, 25.0, 0.35),
    "C": Scanner(0.20, 0.13, 5, 45.0, 1.3, 15.0, 0.6),
}
SCANNER_GAP = 0.15
# Size of the fibroglandular lobules, a property of the patient: the source never sees the target's.
LOBULE_MM = {"source": ((1.2, 3.0), (4.5, 8.0)), "target": ((3.0, 4.5),)}
FIELD_MM = {"source": (26.0, 55.0), "target": (30.0, 48.0)}  # width = depth of the picture
FOCUS = {"source": (0.1, 0.9), "target": (0.25, 0.65)}  # depth of the focus, share of the field

GAIN_DB = -3.5  # mean of what the operator adds

# What varies beyond machine and tissue: (range in the source, range in the target). A source that
# has seen more than it will meet.
WIDER: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    # width of the attenuated beams: spatial compounding makes shadows wide and soft
    "beam_mm": ((0.7, 5.0), (1.5, 4.0)),
    # unevenness of the time-gain compensation
    "tgc_db": ((0.8, 4.0), (1.5, 3.0)),
    # how many times wider the beam is away from the focus
    "defocus": ((1.2, 3.5), (1.2, 2.5)),
    # strength of shadow and enhancement
    "posterior_times": ((0.5, 1.6), (0.6, 1.2)),
    # bright sheets of connective tissue that face the beam: strength, distance, length, tilt
    "sheet_db": ((0.0, 12.0), (4.0, 10.0)),
    "sheet_mm": ((0.25, 1.4), (0.35, 0.8)),
    "sheet_long_mm": ((1.0, 9.0), (1.8, 6.0)),
    "slope": ((-0.35, 0.35), (-0.25, 0.25)),
    # bending of all layers
    "bend_mm": ((0.2, 3.0), (0.4, 1.6)),
    # clouds in the gland, a centimetre wide
    "cloud_db": ((0.0, 6.0), (1.5, 4.5)),
    # uneven loss in the tissue: what lies below dense parts is darker
    "uneven_db": ((0.0, 22.0), (4.0, 16.0)),
    # fine grain of all tissue
    "grain_db": ((0.5, 4.0), (1.2, 3.2)),
    # the darkest grey that the monitor shows, a share of white
    "pedestal": ((0.0, 0.12), (0.01, 0.06)),
    # where the operator's gain puts the mean echo between black and white; 0: as it comes, so that
    # a change of the lesion changes nothing else
    "exposure": ((0.20, 0.52), (0.0, 0.0)),
    # irregularity of the contour
    "wild": ((0.6, 1.8), (0.6, 1.2)),
    # bending of the lesion with the tissue
    "warp": ((0.0, 0.2), (0.0, 0.12)),
}
# Things that only some images have, independent of every descriptor: the probabilities in source
# and target, and the range of their strength.
EXTRAS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "convex": ((0.04, 0.0), (0.2, 0.5)),  # curved probe: half of the sector's opening, radians
    "lobule_like": ((0.35, 0.3), (-9.0, -3.0)),  # a fat lobule that could be taken for a lesion, dB
    "rib_db": ((0.15, 0.08), (12.0, 30.0)),  # a rib at depth: bright, with its shadow
    "calipers": ((0.12, 0.0), (1.0, 1.0)),  # the marks that a reader sets to measure; 1 = white
}


def best_auc(chances: dict = CHANCES) -> float:
    """The AUC of the exact likelihood ratio over all descriptor combinations.

    No reader of the descriptors does better. `chances`: as CHANCES. Returns a float in 0.5..1;
    ties count one half.
    """
    benign, malignant = (
        np.array([np.prod(c) for c in itertools.product(*(p[k].ravel() for p in chances.values()))])
        for k in (0, 1)
    )
    order = np.argsort(malignant / benign, kind="stable")
    benign, malignant = benign[order], malignant[order]
    return float(np.sum(malignant * (np.cumsum(benign) - 0.5 * benign)))
