"""Chapter 01: a lesion, its probability by Bayes' rule, and what the source model says of it."""

from __future__ import annotations

import functools
import math

import ipywidgets as ipw
import matplotlib.pyplot as plt
import torch

from ..phantom import simulate_lesion
from ..plots import BLUE, GREY, INK, ORANGE, draw_image
from .pattern import choice, explore, slider

SIGNS = ("orientation", "calcifications", "halo")
SIGNS_PRESENT = {
    "none": (0, 0, 0),
    "not parallel": (1, 0, 0),
    "calcifications": (0, 1, 0),
    "halo": (0, 0, 1),
    "all three": (1, 1, 1),
}
TICKS = {0.0001: "0.01 %", 0.01: "1 %", 0.5: "50 %", 0.99: "99 %", 0.9999: "99.99 %"}

Steps = dict[str, float]  # what is known -> how far it moves the log-odds of malignancy


def descriptor_explorer(
    chances: dict, values: dict, model, prevalence: int = 40, seed: int = 155
) -> ipw.VBox:
    """Descriptors and prevalence -> the lesion's image, P(malignant) step by step, and the model.

    `chances`, `values`: as phantom.CHANCES and phantom.DESCRIPTORS. `model`: a source model with
    its `normalisation` and `heads`, which names descriptors; it looks in evaluation mode. Without
    heads its part stays empty. `prevalence`: malignant in 100, where the slider starts. `seed`: all
    of the simulated image that no descriptor fixes. The rule is Bayes'.
    """

    @functools.cache
    def seen(*at: int) -> tuple[torch.Tensor, dict[str, list[float]]]:
        image, _ = simulate_lesion(dict(zip(values, at)), seed)
        return image, _named_by(model, image)

    def draw(prevalence: int, other_signs: str, **words: str) -> tuple[plt.Figure, str]:
        at = {name: values[name].index(word) for name, word in words.items()}
        at |= dict(zip(SIGNS, SIGNS_PRESENT[other_signs]))
        at = {name: at[name] for name in values}  # in the model's order
        image, answers = seen(*at.values())
        steps = _steps(chances, at, prevalence / 100)
        said = {
            f"{name}: {values[name][k]}": answers[name][k]
            for name, k in at.items()
            if name in answers
        }
        return _figure(image, steps, said), _in_words(steps, said, prevalence)

    descriptors = {
        name: choice(name, list(words)) for name, words in values.items() if name not in SIGNS
    }
    return explore(
        draw,
        **descriptors,
        other_signs=choice("other signs", list(SIGNS_PRESENT)),
        prevalence=slider("prevalence, %", 1, 60, prevalence),
    )


def _named_by(model, image: torch.Tensor) -> dict[str, list[float]]:
    """Descriptor -> the model's probabilities of its values for one image; {} without heads."""
    heads, mode = getattr(model, "heads", None), model.training
    if not heads:
        return {}
    try:
        with torch.no_grad():
            outputs = model.eval()(model.normalisation(image[None]))[0]
    finally:
        model.train(mode)
    parts = outputs.split(list(heads["sizes"].values()))
    return {name: part.softmax(0).tolist() for name, part in zip(heads["sizes"], parts)}


def _steps(chances: dict, at: dict[str, int], prevalence: float) -> Steps:
    """The log-odds of the prevalence, and the logarithm of each group's likelihood ratio."""
    steps = {"prevalence": math.log(prevalence / (1 - prevalence))}
    for names, (benign, malignant) in chances.items():
        place = tuple(at[name] for name in names)
        steps[" and ".join(names)] = math.log(malignant[place] / benign[place])
    return steps


def _probability(steps: Steps) -> float:
    return 1 / (1 + math.exp(-sum(steps.values())))


def _percent(p: float) -> str:
    """With one decimal; never 0 or 100."""
    if not 0.0005 <= p < 0.9995:
        return "under 0.1 %" if p < 0.5 else "over 99.9 %"
    return f"{100 * p:.1f} %"


def _figure(image: torch.Tensor, steps: Steps, said: dict[str, float]) -> plt.Figure:
    fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.7), width_ratios=[1.1, 1.5, 0.8])
    draw_image(axes[0], image)
    _draw_waterfall(axes[1], steps)
    _draw_answers(axes[2], said)
    for axis, title in zip(axes, ("the image", "what each sign adds", "the source model says")):
        axis.set_title(title, fontsize=11, fontweight="normal")
    title = f"Probability of malignancy: {_percent(_probability(steps))}"
    fig.suptitle(title, fontsize=12, fontweight="bold")
    return fig


def _draw_waterfall(axis: plt.Axes, steps: Steps) -> None:
    """One bar a step, from where the last one ended; the axis is in log-odds, named by chances."""
    start = 0.0
    for row, (name, step) in enumerate(steps.items()):
        color = GREY if name == "prevalence" else ORANGE if step > 0 else BLUE
        axis.barh(row, step, left=start, color=color, edgecolor=INK)
        end = start + step
        axis.plot([end, end], [row, row + 1], color=INK, linestyle=":", linewidth=1)
        if name != "prevalence":
            beside = {"va": "center", "fontsize": 9}
            axis.text(max(start, end) + 0.2, row, f"×{math.exp(step):.2g}", **beside)
        start = end
    axis.plot(start, len(steps), "D", color=INK)
    axis.axvline(0, color=GREY, linestyle="-", linewidth=1)
    axis.set_yticks(range(len(steps) + 1), [*steps, "all together"])
    axis.set_xticks([math.log(p / (1 - p)) for p in TICKS], list(TICKS.values()), fontsize=8)
    axis.set(xlim=(-13, 10.5), ylim=(len(steps) + 0.6, -0.6))
    axis.set_xlabel("probability of malignancy", fontsize=10)


def _draw_answers(axis: plt.Axes, said: dict[str, float]) -> None:
    """The model's probability of each chosen value."""
    axis.barh(range(len(said)), list(said.values()), color=BLUE, edgecolor=INK)
    axis.set_yticks(range(len(said)), [name.replace(": ", ":\n") for name in said], fontsize=9)
    axis.set(xlim=(0, 1), ylim=(max(len(said), 1) - 0.5, -0.5))
    axis.set_xlabel("its probability\nfor the true value", fontsize=10)


def _in_words(steps: Steps, said: dict[str, float], prevalence: int) -> str:
    factors = [(name, math.exp(step)) for name, step in steps.items() if name != "prevalence"]
    each = ", ".join(f"{name} ×{ratio:.2f}" for name, ratio in factors)
    answers = ", ".join(f"{name} {p:.2f}" for name, p in said.items())
    model = f"The source model's probabilities for the true values: {answers}."
    return (
        f"A simulated lesion. {prevalence} of 100 lesions are malignant before a look. Each sign "
        f"multiplies the odds: {each}. The probability of malignancy is "
        f"{_percent(_probability(steps))}. "
        + (model if said else "This model names no descriptors.")
    )
