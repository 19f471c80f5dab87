"""Chapter 14: the scanner dial: one lesion, several machines, what a model says to each."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import ipywidgets as ipw
import matplotlib.pyplot as plt
import torch
from torch import nn

from .. import phantom
from ..phantom_render import TEXTURES, render
from ..phantom_tables import TARGET_SCANNERS, Scanner
from ..plots import BLUE, GREY, ORANGE, draw_image
from ..training import predict
from .pattern import choice, explore

# An old machine, far from A, B and C: coarse, one look, hardly any speckle reduction.
SCANNERS = TARGET_SCANNERS | {"D": Scanner(0.50, 0.28, 1, 62.0, 0.9, 40.0, 0.1)}
MOST = "C"  # the scanner with most looks: a view is drawn with it, and shown with any


def _seen_by(view: dict, scanner: str) -> dict:
    """A view of `phantom.draw_view`, drawn with scanner C, as another scanner shows it.

    Lesion, tissue, place, noise and the operator's settings stay.
    """
    old, new = SCANNERS[MOST], SCANNERS[scanner]
    numbers, at = view["numbers"].copy(), view["names"].index
    for name in ("lateral_mm", "axial_mm", "looks", "smoothing"):
        numbers[at(name)] = getattr(new, name)
    numbers[at("range_db")] *= new.range_db / old.range_db
    numbers[at("gamma")] *= new.gamma / old.gamma
    numbers[at("loss_db")] += new.depth_loss_db - old.depth_loss_db
    return view | {"numbers": numbers, "noise": view["noise"][: TEXTURES + 2 * new.looks]}


@functools.cache
def lesion_on_all(seed: int, size: int) -> tuple[torch.Tensor, bool]:
    """One simulated lesion with each of SCANNERS: images, uint8 (4, 1, size, size); malignant?"""
    rng = phantom.random_stream("target", seed, 14)
    malignant = bool(seed % 2)
    patient = phantom.draw_patient(rng, "target", malignant=malignant)
    patient["scanner"] = SCANNERS[MOST]
    view = phantom.draw_view(phantom.random_stream("target", seed, 14, 0), patient, size * 5 // 4)
    return torch.cat([render([_seen_by(view, s)], size)[0] for s in SCANNERS]), malignant


def scanner_dial(models: dict[str, nn.Module], lesions: int = 8, size: int = 48) -> ipw.VBox:
    """Lesion, machine and model -> the picture, and the model's probability on every machine.

    `models`: name -> a network with two outputs, 1 = malignant. Lesions with an odd number are
    malignant. Machine D is in no training set.
    """
    if not models:
        raise ValueError("scanner_dial needs at least one model: a dict from its name to it.")

    @functools.cache
    def told(name: str, lesion: int) -> list[float]:
        images = lesion_on_all(lesion, size)[0]
        return predict(models[name], SimpleNamespace(images=images))[:, 1].tolist()

    def draw(lesion: int, scanner: str, model: str) -> tuple[plt.Figure, str]:
        images, malignant = lesion_on_all(lesion, size)
        risks, place = told(model, lesion), list(SCANNERS).index(scanner)
        truth = "malignant" if malignant else "benign"
        title = f"Lesion {lesion} ({truth}) on machine {scanner}: {risks[place]:.2f}"
        text = (
            f"Lesion {lesion}, in truth {truth}, on machine {scanner}. {model} gives a probability "
            f"of malignancy of {risks[place]:.2f}. The same lesion on each machine: "
            + ", ".join(f"{s} {p:.2f}" for s, p in zip(SCANNERS, risks))
            + f"; they span {max(risks) - min(risks):.2f}."
        )
        return _figure(images[place], risks, place, title, model), text

    return explore(
        draw,
        lesion=choice("lesion", list(range(1, lesions + 1))),
        scanner=choice("machine", list(SCANNERS)),
        model=choice("model", list(models)),
    )


def _figure(image, risks: list[float], place: int, title: str, model: str) -> plt.Figure:
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4), width_ratios=[1, 1.6])
    draw_image(left, image)
    left.set_title(f"as machine {list(SCANNERS)[place]} shows it", fontsize=10, fontweight="normal")
    for k, risk in enumerate(risks):
        chosen = k == place
        right.barh(k, risk, color=ORANGE if chosen else "white", edgecolor=BLUE, height=0.6)
        right.text(
            risk + 0.02, k, f"{risk:.2f}", va="center", fontweight="bold" if chosen else None
        )
    right.set_yticks(range(len(risks)), [f"machine {name}" for name in SCANNERS])
    right.axvline(0.5, color=GREY, linestyle=":")
    right.set(xlim=(0, 1.15), xlabel=f"probability of malignancy, {model}")
    right.invert_yaxis()
    fig.suptitle(title, fontsize=12, fontweight="bold")
    return fig
