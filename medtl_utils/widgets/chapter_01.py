"""Chapter 01: the probability of malignancy from what a lesion looks like, by Bayes' rule."""

from __future__ import annotations

import math

import ipywidgets as ipw
import matplotlib.pyplot as plt

from ..plots import BLUE, INK, ORANGE
from .pattern import choice, explore, slider

SIGNS = ("orientation", "calcifications", "halo")
SIGNS_PRESENT = {
    "none": (0, 0, 0),
    "not parallel": (1, 0, 0),
    "calcifications": (0, 1, 0),
    "halo": (0, 0, 1),
    "all three": (1, 1, 1),
}


def posterior_by_descriptor(likelihoods: dict, values: dict, prevalence: int = 40) -> ipw.VBox:
    """A lesion's descriptors and the prevalence -> P(malignant), and what each descriptor says.

    `likelihoods`: name -> (P(value | benign), P(value | malignant)), `values`: name -> words, as in
    medtl_utils.phantom. `prevalence`: malignant patients in 100, where the slider starts. The rule
    is Bayes'.
    """

    def draw(prevalence: int, others_present: str, **seen: str) -> tuple[plt.Figure, str]:
        index = {name: values[name].index(word) for name, word in seen.items()}
        index |= dict(zip(SIGNS, SIGNS_PRESENT[others_present]))
        ratios = {
            f"{name}: {values[name][k]}": likelihoods[name][1][k] / likelihoods[name][0][k]
            for name, k in index.items()
        }
        odds = prevalence / (100 - prevalence) * math.prod(ratios.values())
        probability = odds / (1 + odds)
        return (_bars(ratios, probability, prevalence), _in_words(ratios, probability, prevalence))

    descriptors = {
        name: choice(name, list(words)) for name, words in values.items() if name not in SIGNS
    }
    return explore(
        draw,
        **descriptors,
        others_present=choice("other signs", list(SIGNS_PRESENT)),
        prevalence=slider("prevalence, %", 1, 60, prevalence),
    )


def _bars(ratios: dict[str, float], probability: float, prevalence: int) -> plt.Figure:
    bars = [math.log2(ratio) for ratio in ratios.values()]
    colors = [ORANGE if bar > 0 else BLUE for bar in bars]
    fig, axis = plt.subplots(figsize=(7, 3.2))
    axis.barh(range(len(bars)), bars, color=colors, edgecolor=INK)
    axis.axvline(0, color=INK, linestyle="-", linewidth=1)
    axis.set_yticks(range(len(bars)), list(ratios))
    axis.set_xticks(range(-4, 6, 2), ["1/16", "1/4", "1", "4", "16"])
    axis.set_xlim(-5, 5.2)
    axis.set_xlabel("likelihood ratio: left speaks against malignancy, right for it")
    axis.invert_yaxis()
    title = f"P(malignant) = {probability:.2f} where {prevalence} in 100 are malignant"
    fig.suptitle(title, fontsize=12, fontweight="bold")
    return fig


def _in_words(ratios: dict[str, float], probability: float, prevalence: int) -> str:
    each = ", ".join(f"{name.replace(': ', ' ')} {ratio:.2f}" for name, ratio in ratios.items())
    return (
        f"Likelihood ratios: {each}. With {prevalence} malignant in 100, "
        f"the probability of malignancy is {probability:.2f}."
    )
