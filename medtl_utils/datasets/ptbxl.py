"""PTB-XL: real 12-lead records of 10 seconds with the rhythm, in patient-wise folds as published.

Wagner et al., "PTB-XL, a large publicly available electrocardiography dataset", Scientific Data 7
(2020) 154; version 1.0.3 on PhysioNet, CC BY 4.0. It does not ship. Files are read through the
package `wfdb` (extra "ecg") at 100 Hz; those that are missing are fetched by it, and hashed.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import signal

from ..data import DataError

TABLE, SUMS = "ptbxl_database.csv", "SHA256SUMS.txt"
FOLDS = {"train": range(1, 9), "val": (9,), "test": (10,)}  # as its authors recommend
CLASSES = ("sinus rhythm", "premature beats", "AF-like")
RHYTHMS = ({"SR"}, {"PVC", "PAC"}, {"AFIB"})  # statements that speak for each class


@dataclass
class Signals:
    """ECG records, as `fine_tune`, `predict` and `evaluate` take them.

    images: torch float32 (N, 1, T), one lead in mV. labels: torch int64 (N,), of `classes`.
    patients: NumPy str (N,), or None. rates: torch float32 (N,), beats/min, or None where the
    source does not tell.
    """

    images: torch.Tensor
    labels: torch.Tensor
    patients: np.ndarray | None = None
    rates: torch.Tensor | None = None
    name: str = "records"
    classes: tuple[str, ...] = CLASSES
    positive: None = None

    @property
    def groups(self) -> np.ndarray:
        """(N,) what is drawn as one for an interval: patients, else each record alone."""
        return np.arange(len(self)) if self.patients is None else self.patients

    def __len__(self) -> int:
        return len(self.labels)


def read_ptbxl(
    root: str | Path,
    each: dict[str, int],
    hz: int = 128,
    lead: str = "II",
    seed: int = 0,
    rate_of: Callable[[np.ndarray], float] | None = None,
) -> dict[str, Signals]:
    """ "train", "val" and "test" of PTB-XL, one lead, three rhythms.

    `root`: the folder with ptbxl_database.csv; what is missing there is fetched through wfdb.
    `each`: part -> records of a rhythm, at most, drawn by `seed`; one per patient. `hz`: they are
    resampled to this rate. `rate_of`: a record (T,) -> beats/min; PTB-XL does not tell the rate.
    A record with statements of two rhythms becomes the later class; one with other rhythms alone
    is left out. Raises DataError, naming the file, for what is missing, damaged or no PTB-XL.
    """
    import wfdb

    root = Path(root)
    _fetch(root, [TABLE])
    rows, rng = _rows(root / TABLE), np.random.default_rng(seed)
    chosen = {part: _drawn(rows, FOLDS[part], each[part], rng) for part in FOLDS}
    files = [row["file"] for part in chosen.values() for row in part]
    _fetch(root, [f"{file}.{end}" for file in files for end in ("hea", "dat")])
    parts = {}
    for part, found in chosen.items():
        if len({row["label"] for row in found}) < len(CLASSES):
            raise DataError(f"{root / TABLE}: the {part} folds do not hold all of {CLASSES}.")
        x = _read(wfdb, [root / row["file"] for row in found], lead, hz)
        rates = None if rate_of is None else torch.tensor([rate_of(v) for v in x]).float()
        labels = torch.tensor([row["label"] for row in found])
        patients = np.array([row["patient"] for row in found])
        images = torch.from_numpy(x)[:, None].float()
        parts[part] = Signals(images, labels, patients, rates, f"PTB-XL, {part}")
    return parts


def _rows(table: Path) -> list[dict]:
    """file, patient, fold, label of each record with one of the three rhythms."""
    found = []
    try:
        with open(table, encoding="utf-8", newline="") as text:
            for row in csv.DictReader(text):
                statements = set(ast.literal_eval(row["scp_codes"]))
                spoken = [c for c, codes in enumerate(RHYTHMS) if codes & statements]
                if spoken:
                    patient, fold = str(int(float(row["patient_id"]))), int(row["strat_fold"])
                    found.append(
                        {"file": row["filename_lr"], "patient": patient, "fold": fold}
                        | {"label": max(spoken)}
                    )
    except (KeyError, ValueError, SyntaxError, OSError) as error:
        raise DataError(
            f"{table} is no table of PTB-XL ({type(error).__name__}: {error})."
        ) from None
    where: dict[str, int] = {}
    for row in found:
        if where.setdefault(row["patient"], row["fold"]) != row["fold"]:
            raise DataError(f"{table}: a patient is in two folds. Take the original table again.")
    return found


def _drawn(rows: list[dict], folds, each: int, rng: np.random.Generator) -> list[dict]:
    """At most `each` records of every class from these folds, one a patient, in random order."""
    here = [row for row in rows if row["fold"] in folds]
    here = [here[k] for k in rng.permutation(len(here))]
    alone = list({row["patient"]: row for row in here}.values())
    return [row for c in range(len(CLASSES)) for row in _of(alone, c)[:each]]


def _of(rows: list[dict], label: int) -> list[dict]:
    return [row for row in rows if row["label"] == label]


def _read(wfdb, files: list[Path], lead: str, hz: int) -> np.ndarray:
    """One lead of each file (N, T), resampled to `hz`."""
    read = [_lead(wfdb, file, lead) for file in files]
    if len({(len(x), at) for x, at in read}) != 1:
        raise DataError(f"{files[0].parent}: the records differ in length or sampling rate.")
    return signal.resample_poly(np.stack([x for x, _ in read]), hz, read[0][1], axis=1)


def _lead(wfdb, file: Path, lead: str) -> tuple[np.ndarray, int]:
    """(float32 (T,) in mV, Hz) of one lead of one record."""
    try:
        with warnings.catch_warnings():  # wfdb 4.3 uses what pandas 3 will drop
            warnings.filterwarnings("ignore", message="The inplace keyword")
            values, header = wfdb.rdsamp(str(file))
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{file} cannot be read ({type(error).__name__}: {error}).") from error
    names = [name.upper() for name in header["sig_name"]]
    if lead.upper() not in names:
        raise DataError(f"{file} has no lead {lead}; it has {', '.join(names)}.")
    column = names.index(lead.upper())
    if header["units"][column] != "mV":
        raise DataError(f"{file}: lead {lead} is in {header['units'][column]}, expected mV.")
    return np.asarray(values[:, column], np.float32), int(header["fs"])


def _fetch(root: Path, names: list[str]) -> None:
    """Download through wfdb what is missing, and check its SHA-256 against the published list."""
    missing = [name for name in names if not (root / name).is_file()]
    if not missing:
        return
    import wfdb

    root.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {len(missing)} file(s) of PTB-XL through wfdb ...", flush=True)
    asked = missing if (root / SUMS).is_file() else [SUMS, *missing]
    try:
        wfdb.dl_files("ptb-xl", str(root), asked)
    except Exception as error:  # the package lets through whatever its HTTP client raises
        raise DataError(
            f"{root / missing[0]} is missing and could not be downloaded ({error}). With a "
            "network, try again; without one, put a copy of "
            "https://physionet.org/content/ptb-xl/1.0.3/ into this folder."
        ) from error
    lines = [line.split() for line in (root / SUMS).read_text().splitlines() if line.strip()]
    published = {name: digest for digest, name in lines}
    for name in missing:
        if not (root / name).is_file():
            raise DataError(f"{root / name} is still missing after the download. Try again.")
        found = hashlib.sha256((root / name).read_bytes()).hexdigest()
        if found != published.get(name):
            (root / name).unlink()
            raise DataError(
                f"The download of {name} has the SHA-256 {found}, expected {published.get(name)}. "
                "It was removed. Try again."
            )
