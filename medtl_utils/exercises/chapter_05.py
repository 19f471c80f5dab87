"""Exercises of chapter 05, Fine-tune a ResNet."""

import torch

from .functions import Function, Wrong
from .kinds import WholeNumber, Word


def probabilities(model, images, column=1):
    """P(class), shape (N,), in evaluation mode and without a gradient."""
    with torch.no_grad():
        return model.eval()(images).softmax(1)[:, column]


def softmax_twice(model, images):
    with torch.no_grad():
        return model.eval()(images).softmax(1).softmax(1)[:, 1]


def model_and_images():
    """A model in training mode whose BatchNorm and dropout matter, and seven images."""
    with torch.random.fork_rng(devices=[]):  # the learner's own random numbers stay as they were
        torch.manual_seed(0)
        layers = (torch.nn.Flatten(), torch.nn.BatchNorm1d(12), torch.nn.Dropout(0.5))
        model = torch.nn.Sequential(*layers, torch.nn.Linear(12, 2))
        return [(model, torch.randn(7, 3, 2, 2) * 2 + 1)]


EXERCISES = {
    "5.1": WholeNumber(
        hint="count the weights of Linear(512, 2), then its biases.",
        right=1026,
        wrong={
            1024: "the biases are missing.",
            513: "that is a head with one output.",
            11_177_538: "that is the whole network; only the head learns.",
            11_176_512: "those are the frozen ones.",
        },
    ),
    "5.2": Word(
        hint='answer with one word: "weights", "statistics" or "nothing".',
        right="statistics",
        wrong={
            "weights": "requires_grad=False does stop the weights.",
            "nothing": "look at running_mean: the forward pass itself changes it.",
            "both": "requires_grad=False does stop the weights.",
        },
    ),
    "5.3": Function(
        hint="write a function that takes (model, images) and returns one probability an image.",
        right=probabilities,
        cases=model_and_images,
        form="return the tensor of probabilities itself, one per image, of shape (7,)",
        wrong=(
            Wrong(
                lambda model, x: model.eval()(x).softmax(1),
                "one number an image is asked for: take the column of class 1.",
            ),
            Wrong(
                lambda model, x: probabilities(model, x, column=0),
                "that is the probability of class 0. Which index is malignant here?",
            ),
            Wrong(
                lambda model, x: model.eval()(x)[:, 1],
                "those are logits, not probabilities: a softmax over the classes is missing.",
            ),
            Wrong(
                lambda model, x: model.eval()(x).softmax(0)[:, 1],
                "the softmax runs over the images (dim 0); it must run over the classes (dim 1).",
            ),
            Wrong(
                softmax_twice,
                "softmax was taken twice, which pushes every probability towards one half.",
            ),
        ),
        other=Wrong(
            lambda model, x: model.train()(x).softmax(1)[:, 1],
            "the numbers differ from the expected ones. Was the model in evaluation mode? "
            "BatchNorm and dropout behave otherwise in training.",
        ),
        although_right=(
            Wrong(
                lambda model, x: model.eval()(x).softmax(1)[:, 1],
                "the result requires a gradient: wrap the forward pass in torch.no_grad().",
                when=lambda attempt: getattr(attempt.result, "requires_grad", False),
            ),
        ),
    ),
    "5.4": Word(
        hint='answer "yes", "no" or "cannot say".',
        right="cannot say",
        wrong={
            "yes": "the interval includes zero: a difference of 0 is compatible with these data.",
            "no": "no evidence of a difference is not evidence of no difference: the interval "
            "reaches +0.09.",
        },
    ),
}
