"""Chapter 15b: a frame can be short or its frequencies fine, but not both."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np
from scipy import signal

from ..datasets.fsdd import RATE, Sound
from .pattern import choice, explore

FRAMES = [32, 8, 16, 64, 128]  # ms; the first is shown first
STEP = 4  # ms from one frame to the next
DEPTH = 60  # dB that are shown


def frame_explorer(sounds: list[Sound]) -> ipw.VBox:
    """Word, speaker and length of a frame -> the spectrogram, and how fine it is.

    `sounds`: recordings as from `datasets.fsdd.load_sounds`, one of each word and speaker, of at
    least 128 ms. Hann window, a frame every 4 ms, decibel below the loudest value.
    """
    of = {(sound.word, sound.speaker): sound.wave for sound in sounds}
    words, speakers = (list(dict.fromkeys(names)) for names in zip(*of))

    def draw(word: str, speaker: str, frame: int) -> tuple[plt.Figure, str]:
        wave = of[word, speaker]
        hertz, seconds, decibel = _spectrogram(wave, frame)
        row, column = np.unravel_index(decibel.argmax(), decibel.shape)
        title = f"“{word}” of {speaker}: frames of {frame} ms, {1000 / frame:.0f} Hz apart"
        text = (
            f"Spectrogram of “{word}”, said by {speaker} in {1000 * len(wave) / RATE:.0f} ms. "
            f"Each frame lasts {frame} ms; frequencies are {1000 / frame:.1f} Hz apart. Loudest "
            f"at {1000 * seconds[column]:.0f} ms and {hertz[row]:.0f} Hz. Short frames show when, "
            "long frames show which frequency."
        )
        return _figure(hertz, seconds, decibel, title), text

    return explore(
        draw,
        word=choice("word", words),
        speaker=choice("speaker", speakers),
        frame=choice("frame, ms", FRAMES),
    )


def _spectrogram(wave: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies in Hz, middles of frames in s, and decibel (frequencies, frames) below 0."""
    n, step = RATE * frame // 1000, RATE * STEP // 1000
    hertz, seconds, power = signal.spectrogram(
        wave, RATE, window="hann", nperseg=n, noverlap=n - step, detrend=False, mode="psd"
    )
    return hertz, seconds, 10 * np.log10(np.maximum(power / power.max(), 10 ** (-DEPTH / 10)))


def _figure(hertz, seconds, decibel, title: str) -> plt.Figure:
    fig, axis = plt.subplots(figsize=(8, 3.8))
    mesh = axis.pcolormesh(
        1000 * seconds, hertz / 1000, decibel, cmap="magma", vmin=-DEPTH, vmax=0, shading="nearest"
    )
    axis.set(title=title, xlabel="time, ms", ylabel="frequency, kHz")
    fig.colorbar(mesh, label="dB below the loudest")
    return fig
