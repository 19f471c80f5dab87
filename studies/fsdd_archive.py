"""The shipped files of the Free Spoken Digit Dataset, made from its 3,000 recordings.

    python -m studies.fsdd_archive FILE

FILE: npz with `audio` int16 (all samples, one recording after the other, 8 kHz), `length` int32,
`digit` int8, `speaker` str and `take` int16 (N,). Made from it: data/fsdd_logmel.npz, a log-mel
spectrogram of each recording, and data/fsdd_sounds.npz, take 0 of each speaker and word, unchanged,
to be heard. Same input, same bytes (zlib of one version): the zip entries have a fixed date.

Log-mel: frames of 256 samples (32 ms, periodic Hann window) every 128; squared magnitude of the
Fourier transform; 32 triangular mel filters with peak 1 from 0 to 4,000 Hz (mel = 2595 log10(1 +
f/700)); decibel below the loudest value of the recording, cut at -60; 0 to 255 for -60 to 0 dB;
48 frames: the middle ones of a long recording, and 0 around a short one.

Source: Jackson et al., Free Spoken Digit Dataset, v1.0.10, CC BY-SA 4.0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from medtl_utils.paths import data_folder
from studies.busi_archive import write_npz

RATE, FRAME, HOP = 8000, 256, 128  # Hz, samples, samples
N_MELS, N_FRAMES, RANGE = 32, 48, 60.0  # bands, frames, dB


def mel_filters(n_mels: int = N_MELS, frame: int = FRAME, rate: int = RATE) -> np.ndarray:
    """Triangular filters, float64 (n_mels, frame // 2 + 1), peak 1, from 0 Hz to half the rate."""
    hertz = np.fft.rfftfreq(frame, 1 / rate)
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    low, centre, high = (corners[k : k + n_mels, None] for k in range(3))
    return np.clip(
        np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)), 0, None
    )


def mel_power(wave: np.ndarray) -> np.ndarray:
    """Power in each band and frame, float64 (32, frames), of samples (n,), n >= 256."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, FRAME)[::HOP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    return mel_filters() @ np.abs(np.fft.rfft(frames * window, axis=1).T) ** 2


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Decibel below the loudest value of the recording, float64 (32, frames), -60 to 0."""
    power = mel_power(wave)
    return 10 * np.log10(np.maximum(power / power.max(), 10 ** (-RANGE / 10)))


def as_image(decibel: np.ndarray) -> np.ndarray:
    """uint8 (32, 48): 0 for -60 dB, 255 for 0 dB; cut or padded with 0 to the middle 48 frames."""
    image = np.round(255 * (1 + decibel / RANGE)).astype(np.uint8)
    start = max(0, (image.shape[1] - N_FRAMES) // 2)
    image = image[:, start : start + N_FRAMES]
    before = (N_FRAMES - image.shape[1]) // 2
    return np.pad(image, ((0, 0), (before, N_FRAMES - image.shape[1] - before)))


def read_archive(path: Path) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Recordings, each int16 (n,), and the columns digit, speaker and take, (N,) each.

    Raises ValueError where a column is missing or the lengths do not add up.
    """
    with np.load(path, allow_pickle=False) as file:
        missing = {"audio", "length", "digit", "speaker", "take"} - set(file.files)
        if missing:
            raise ValueError(f"{path}: {', '.join(sorted(missing))} missing. Take another file.")
        audio, length = file["audio"], file["length"]
        columns = {name: file[name] for name in ("digit", "speaker", "take")}
    fit = len(audio) == length.sum() and all(len(c) == len(length) for c in columns.values())
    if audio.dtype != np.int16 or not fit or length.min() < FRAME:
        raise ValueError(f"{path}: lengths and samples do not fit together. Take the file again.")
    return np.split(audio, np.cumsum(length)[:-1]), columns


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="npz with all recordings")
    parser.add_argument("--out", type=Path, default=data_folder())
    given = parser.parse_args(argv)
    waves, columns = read_archive(given.file)
    logmel = np.stack([as_image(log_mel(wave / 32768)) for wave in waves])
    first = np.flatnonzero(columns["take"] == 0)
    heard = {name: column[first] for name, column in columns.items()}
    heard |= {
        "audio": np.concatenate([waves[k] for k in first]),
        "length": np.array([len(waves[k]) for k in first], dtype=np.int32),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    for name, arrays in (("fsdd_logmel", {"logmel": logmel, **columns}), ("fsdd_sounds", heard)):
        path = given.out / f"{name}.npz"
        digest = write_npz(path, **arrays)
        print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
