"""Checks of the exercises: one table, one function. Each answer gets a sentence; none gets a traceback."""

from __future__ import annotations

from collections.abc import Callable

import torch


def _probability_function(answer) -> str | None:
    """None if `answer(model, images)` gives P(class 1) in evaluation mode, else the hint for the mistake it makes."""
    if not callable(answer):
        return "answer should be a function: def answer(model, images): ..."
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(12), torch.nn.Dropout(0.5), torch.nn.Linear(12, 2))
    images = torch.randn(7, 3, 2, 2) * 2 + 1
    want = model.eval()(images).softmax(1).detach()
    model.train()
    try:
        got = answer(model, images)
    except Exception as error:
        return f"your function stopped with {type(error).__name__}: {error}"
    if not isinstance(got, torch.Tensor):
        return "return the tensor of probabilities itself."
    got = got.detach()
    if got.shape == (7, 2):
        return "one number an image is asked for: take the column of class 1."
    if got.shape != (7,):
        return f"the result should have shape (7,), one probability an image; yours has {tuple(got.shape)}."
    if torch.allclose(got, want[:, 1], atol=1e-5):
        tracked = answer(model, images).requires_grad
        return "the result requires a gradient: wrap the forward pass in torch.no_grad()." if tracked else None
    if torch.allclose(got, want[:, 0], atol=1e-5):
        return "that is the probability of class 0. Which index is malignant here?"
    if torch.allclose(got, model.eval()(images)[:, 1].detach(), atol=1e-5):
        return "those are logits, not probabilities: a softmax over the classes is missing."
    if torch.allclose(got, model.eval()(images).softmax(0)[:, 1].detach(), atol=1e-5):
        return "the softmax runs over the images (dim 0); it must run over the classes (dim 1)."
    if torch.allclose(got, want.softmax(1)[:, 1], atol=1e-5):
        return "softmax was taken twice, which pushes every probability towards one half."
    return "the numbers differ from the expected ones. Was the model in evaluation mode? BatchNorm and dropout behave otherwise in training."


# name -> (hint for an empty answer, {wrong answer: what it shows}, right answer or a function that returns a hint or None)
EXERCISES: dict[str, tuple[str, dict, object | Callable]] = {
    "0.1": (
        "the source is the task that has plenty of data and gives its knowledge away.",
        {
            "parkinson detection": "that is the target: it has 200 recordings and receives the knowledge.",
            "both": "the two tasks have different roles: one gives, one receives.",
            "speech": "name the task, not the kind of data.",
        },
        "word recognition",
    ),
    "0.2": (
        "look at the two intervals, and at who was tested.",
        {
            "yes": "0.89 lies inside A's interval and 0.91 inside B's: the difference may be luck.",
            "no": "A may well be better: no evidence of a difference is not evidence of no difference.",
            "a": "0.89 lies inside A's interval and 0.91 inside B's: the difference may be luck.",
        },
        "cannot say",
    ),
    "0.3": (
        "a whole number. Which set is for choosing?",
        {
            20: "then the test set has chosen, and its number is too good: choose on validation.",
            1: "one look at the chosen model comes after choosing; before it, none.",
            19: "every look before choosing lets the test set choose.",
        },
        0,
    ),
    # ---- 01 ----
    # ---- 02 ----
    # ---- 03 ----
    # ---- 04 ----
    # ---- 05 ----
    "5.1": (
        "count the weights of Linear(512, 2), then its biases.",
        {
            1024: "the biases are missing.",
            513: "that is a head with one output.",
            11_177_538: "that is the whole network; only the head learns.",
            11_176_512: "those are the frozen ones.",
        },
        1026,
    ),
    "5.2": (
        'answer with one word: "weights", "statistics" or "nothing".',
        {
            "weights": "requires_grad=False does stop the weights.",
            "nothing": "look at running_mean: the forward pass itself changes it.",
            "both": "requires_grad=False does stop the weights.",
        },
        "statistics",
    ),
    "5.3": ("write a function that takes (model, images) and returns one probability an image.", {}, _probability_function),
    "5.4": (
        'answer "yes", "no" or "cannot say".',
        {
            "yes": "the interval includes zero: a difference of 0 is compatible with these data.",
            "no": "no evidence of a difference is not evidence of no difference: the interval reaches +0.09.",
        },
        "cannot say",
    ),
}


def check(name: str, answer) -> None:
    """Print whether `answer` solves exercise `name`, or a hint that names the mistake. `...` means not answered yet."""
    if name not in EXERCISES:
        raise ValueError(f"There is no exercise {name!r}. There are: {', '.join(EXERCISES)}.")
    hint, mistakes, right = EXERCISES[name]
    if answer is ... or answer is None:
        print(f"Exercise {name}: not answered yet. Hint: {hint}")
        return
    if callable(right):
        problem = right(answer)
    else:
        answer = answer.strip().lower() if isinstance(answer, str) else answer
        try:
            problem = None if answer == right else mistakes.get(answer, f"not yet. Hint: {hint}")
        except TypeError:  # a list or another thing that cannot be looked up
            problem = f"not yet. Hint: {hint}"
    print(f"Exercise {name}: correct." if problem is None else f"Exercise {name}: {problem}")
