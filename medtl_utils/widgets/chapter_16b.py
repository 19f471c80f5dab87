"""Chapter 16b: what more workers save, by a model of one training step."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np

from ..plots import BLUE, GREY, ORANGE
from .pattern import choice, explore

WORKERS = [8, 1, 2, 4, 16, 32, 64]
BATCHES = [256, 64, 128, 1024, 4096]  # images of all workers together: one each at least
SIZES = [45, 100, 350, 1400]  # MB of gradients; 45: ResNet-18
BANDWIDTHS = [10, 1, 25, 100, 400]  # Gbit/s between two workers
# assumptions that the dial does not change
IMAGE = 1e-3 / 45  # seconds an image and MB of the network: 1 ms for ResNet-18
ALONE = 2e-3  # seconds of a step that every worker spends: it is not shared out
LATENCY = 20e-6  # seconds a message


def scaling_dial() -> ipw.VBox:
    """Workers, batch, size of the network, bandwidth -> the time of a step, and the speed-up.

    A ring all-reduce: each worker sends 2 (p - 1) / p of the gradients, in 2 (p - 1) messages.
    """

    def draw(workers: int, batch: int, size: int, bandwidth: int) -> tuple[plt.Figure, str]:
        compute, sending = _parts(workers, batch, size, bandwidth)
        total = compute + ALONE + sending
        gain = _step(1, batch, size, bandwidth) / total
        every = [_step(p, batch, size, bandwidth) for p in range(1, 65)]
        best = int(np.argmin(every)) + 1
        text = (
            f"{workers} workers, {batch:,} images a step, {size:,} MB of gradients, {bandwidth} "
            f"Gbit/s: a step takes {1000 * total:.1f} ms: {1000 * compute:.1f} compute, "
            f"{1000 * ALONE:.1f} not shared out, {1000 * sending:.1f} exchange. Speed-up "
            f"{gain:.2f}, efficiency {100 * gain / workers:.0f} %. Fastest up to 64: {best} "
            f"workers. Assumed: {1e6 * IMAGE * size:,.0f} µs per image and worker, "
            f"{1e6 * LATENCY:.0f} µs per message, no overlap of compute and exchange."
        )
        return _figure(workers, gain, every), text

    return explore(
        draw,
        workers=choice("workers", WORKERS),
        batch=choice("images a step, of all workers", BATCHES),
        size=choice("gradients in MB", SIZES),
        bandwidth=choice("bandwidth in Gbit/s", BANDWIDTHS),
    )


def _parts(workers: int, batch: int, size: float, bandwidth: float) -> tuple[float, float]:
    """Seconds of a step that go into computing and into the exchange."""
    bytes_sent = 2 * (workers - 1) / workers * size * 1e6
    sending = bytes_sent / (bandwidth * 1e9 / 8) + 2 * (workers - 1) * LATENCY
    return IMAGE * size * batch / workers, sending


def _step(workers: int, batch: int, size: float, bandwidth: float) -> float:
    return sum(_parts(workers, batch, size, bandwidth)) + ALONE


def _figure(workers: int, gain: float, every: list[float]) -> plt.Figure:
    fig, axis = plt.subplots(figsize=(7.5, 3.6))
    numbers = np.arange(1, 65)
    axis.plot(numbers, numbers, color=GREY, linestyle=":", label="ideal: as many times as workers")
    axis.plot(numbers, every[0] / np.array(every), color=BLUE, label="this setting")
    axis.plot(workers, gain, "o", color=ORANGE, markersize=9)
    axis.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up over one worker")
    ticks = [1, 2, 4, 8, 16, 32, 64]
    axis.set_xticks(ticks, map(str, ticks))
    axis.set_yticks([0.1, 1, 4, 16, 64], ["0.1", "1", "4", "16", "64"])
    axis.minorticks_off()
    axis.set(ylim=(0.03, 80))
    axis.legend(loc="upper left")
    fig.suptitle(
        f"{workers} workers: {gain:.1f} times as fast as one", fontsize=12, fontweight="bold"
    )
    return fig
