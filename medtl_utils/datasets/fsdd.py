"""Spoken digits, real speech: log-mel spectrograms of 3,000 recordings, and 60 to be heard; ships.

Jackson et al., Free Spoken Digit Dataset, v1.0.10. CC BY-SA 4.0, and so are both files. How they
were made: studies/fsdd_archive.py.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..data import DataError, Split
from . import shipped

LOGMEL, SOUNDS = "fsdd_logmel.npz", "fsdd_sounds.npz"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000  # samples a second
CARD = (
    "FSDD: ten English words (digits), said 50 times each by six volunteers, 3,000 recordings at "
    "8 kHz; here as log-mel spectrograms (32 bands, 48 frames of 16 ms, uint8: 0 is 60 dB below "
    "the loudest value of the recording).\n"
    "Source: Jackson et al., Free Spoken Digit Dataset, v1.0.10. Licence: CC BY-SA 4.0, also for "
    "these files and for what is made of them. Known faults: six speakers, all of them men where "
    "the source tells; nothing is known of their health, and no patient is meant. Each recorded "
    "himself: speaker, room and microphone cannot be told apart. When and in how many sessions, "
    "the source does not say. Do not try to identify anyone. Never for diagnosis."
)


class Sound(NamedTuple):
    """One recording: samples float32 (n,) within -1..1, its word, speaker and take."""

    wave: np.ndarray
    word: str
    speaker: str
    take: int


def _read(name: str, root: str | Path | None, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    content = shipped.read(name, None if root is None else Path(root))
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        if missing := set(wanted) - set(file.files):
            raise DataError(f"{name}: {', '.join(sorted(missing))} missing. Take the file again.")
        return {column: file[column] for column in wanted}


def load_words(root: str | Path | None = None) -> Split:
    """All 3,000 recordings as log-mel spectrograms: a Split of images uint8 (N, 1, 32, 48).

    Band 0 is the lowest. labels: the word, index of WORDS. patients: the speaker. ids: digit,
    speaker and take, as "7_jackson_32". descriptors["take"]: int, 0 to 49. `CARD` tells source,
    licence and faults. `root`: folder of the file, default the data folder. Raises DataError where
    the file is missing or was changed.
    """
    found = _read(LOGMEL, root, ("logmel", "digit", "speaker", "take"))
    digit, speaker, take = (found[name] for name in ("digit", "speaker", "take"))
    return Split(
        "fsdd",
        torch.from_numpy(found["logmel"])[:, None],
        torch.from_numpy(digit.astype(np.int64)),
        WORDS,
        patients=speaker,
        descriptors={"take": take.astype(np.int64)},
        ids=np.array([f"{d}_{s}_{t}" for d, s, t in zip(digit, speaker, take)]),
    )


def load_sounds(root: str | Path | None = None) -> list[Sound]:
    """Take 0 of every speaker and word, 60 recordings as they are in the source, at 8 kHz.

    `root` and errors: as in `load_words`.
    """
    found = _read(SOUNDS, root, ("audio", "length", "digit", "speaker", "take"))
    waves = np.split(found["audio"].astype(np.float32) / 32768, np.cumsum(found["length"])[:-1])
    columns = (found[name].tolist() for name in ("digit", "speaker", "take"))
    return [Sound(wave, WORDS[d], s, t) for wave, d, s, t in zip(waves, *columns)]
