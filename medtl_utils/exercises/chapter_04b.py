"""Exercises of chapter 04b, Find the faults."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from .functions import Function, Wrong
from .kinds import Letters, Number
from .reading import plain

# ---- 4b.3: all frozen but scale, shift and head ----


def norms_of(model):
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]


def number_that_learns(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def hold_still(layer, inputs):
    layer.eval()


def freeze_but_scale_and_shift(model):
    model.requires_grad_(False)
    model.fc.requires_grad_(True)
    for layer in norms_of(model):
        layer.requires_grad_(True)
        layer.register_forward_pre_hook(hold_still)
    return number_that_learns(model)


def freeze_weights_only(model):
    model.requires_grad_(False)
    for layer in (*norms_of(model), model.fc):
        layer.requires_grad_(True)
    return number_that_learns(model)


def freeze_and_eval_once(model):
    number = freeze_weights_only(model)
    model.eval()
    return number


def freeze_norms_too(model):
    freeze_but_scale_and_shift(model)
    for layer in norms_of(model):
        layer.requires_grad_(False)
    return number_that_learns(model)


def freeze_head_too(model):
    freeze_but_scale_and_shift(model)
    model.fc.requires_grad_(False)
    return number_that_learns(model)


def freeze_statistics_only(model):
    freeze_but_scale_and_shift(model)
    model.requires_grad_(True)
    return number_that_learns(model)


def count_tensors(model):
    freeze_but_scale_and_shift(model)
    return sum(p.requires_grad for p in model.parameters())


def count_all(model):
    freeze_but_scale_and_shift(model)
    return sum(p.numel() for p in model.parameters())


def one_network():
    """A small network with the names of a ResNet: two convolutions, two BatchNorms, a head."""
    with torch.random.fork_rng(devices=[]):  # the learner's own random numbers stay as they were
        torch.manual_seed(0)
        layers = {
            "conv1": nn.Conv2d(3, 4, 3, bias=False),
            "bn1": nn.BatchNorm2d(4),
            "relu": nn.ReLU(),
            "layer1": nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)),
            "avgpool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(4, 2),
        }
        return [(nn.Sequential(OrderedDict(layers)),)]


def what_learns(returned, model):
    """(the number, flags: a convolution, every scale and shift, the head, statistics moved)."""
    norms = norms_of(model)
    own = {id(p) for layer in (*norms, model.fc) for p in layer.parameters()}
    weights = any(p.requires_grad for p in model.parameters() if id(p) not in own)
    scales = all(p.requires_grad for layer in norms for p in layer.parameters())
    head = all(p.requires_grad for p in model.fc.parameters())
    before = [layer.running_mean.clone() for layer in norms]
    with torch.no_grad():
        model.train()(torch.linspace(-2, 2, 768).sin().view(4, 3, 8, 8))
    moved = any(not torch.equal(b, layer.running_mean) for b, layer in zip(before, norms))
    flags = np.array([weights, scales, head, moved], dtype=float)
    return plain(returned), flags


def flag(place: int, value: float):
    return lambda attempt: attempt.got[1][place] == value


# ---- 4b.4: patients on both sides ----


def leaked(train_patients, test_patients):
    return np.isin(test_patients, train_patients).mean()


def two_splits():
    """(names of the training images' patients, names of the test images' patients)."""
    train = np.array(["ann", "ann", "bo", "cy", "cy", "cy", "di", "di"])
    test = np.array(["bo", "bo", "bo", "eve", "fay"])
    return [(train, test), (train[:3].copy(), np.array(["ann", "bo", "gus", "gus", "gus", "gus"]))]


def of_patients(train_patients, test_patients):
    return np.isin(np.unique(test_patients), train_patients).mean()


EXERCISES = {
    "4b.1": Letters(
        hint="go line by line: who is in `test`, what moves in training mode, what does `test` "
        "decide?",
        hints=(
            "three lines: one mixes patients, one lets statistics move, one reports the maximum.",
        ),
        right="aeg",
        wrong={
            "a": "a: with several images per patient, a random split of images puts patients on "
            "both sides.",
            "b": "b only loads the source: nothing is wrong there.",
            "c": "c is right: these are the scaling numbers of this model.",
            "d": "d is right: a new head with one output per class.",
            "e": 'e: batchnorm="train" lets the statistics of the frozen layers drift.',
            "f": "f only writes the numbers down; the fault is what is done with them.",
            "g": "g: the maximum over ten epochs was chosen on the test set that reports it.",
        },
    ),
    "4b.2": Number(
        hint="which set chooses? Then read the other set, in the same epoch.",
        hints=("validation is best in epoch 2.",),
        right=0.79,
        wrong={
            0.87: "that is the best test AUC: the test set would choose what it reports.",
            0.85: "that is the validation AUC that chose the epoch: it is too good.",
            0.82: "that is the last epoch: right only if you had fixed it beforehand.",
            0.80: "that is the first epoch; validation prefers another one.",
        },
    ),
    "4b.3": Function(
        hint="three steps: freeze all, switch on fc and every BatchNorm, hold the statistics.",
        hints=(
            "layer.register_forward_pre_hook(hold) outlives model.train(); hold(layer, inputs) "
            "calls layer.eval() and returns nothing.",
        ),
        right=freeze_but_scale_and_shift,
        cases=one_network,
        observe=what_learns,
        form="return the number of parameters that learn, one whole number",
        wrong=(
            Wrong(
                freeze_statistics_only,
                "weights of a convolution still learn: only fc, scales and shifts should.",
                when=flag(0, 1),
            ),
            Wrong(
                freeze_norms_too,
                "a scale or a shift is frozen: switch requires_grad on for every BatchNorm.",
                when=flag(1, 0),
            ),
            Wrong(freeze_head_too, "the head fc is frozen: it must learn.", when=flag(2, 0)),
            Wrong(
                freeze_and_eval_once,
                "after model.train() the running statistics moved: one eval() does not last.",
                when=flag(3, 1),
            ),
            Wrong(
                count_tensors,
                "the network is right; the number is that of tensors: add up p.numel().",
            ),
            Wrong(count_all, "the network is right; the number counts frozen parameters too."),
        ),
        other=Wrong(
            lambda model: freeze_but_scale_and_shift(model) + 1,
            "the network is right; another number is expected.",
        ),
    ),
    "4b.4": Function(
        hint="one answer per test image: is its patient among those of training?",
        hints=("np.isin(a, b) says for each entry of a whether it is in b.",),
        right=leaked,
        cases=two_splits,
        form="return one number, a share from 0 to 1",
        wrong=(
            Wrong(
                lambda train_patients, test_patients: leaked(test_patients, train_patients),
                "that is the share of the training images: take the test images.",
            ),
            Wrong(of_patients, "that is the share of patients: count images."),
            Wrong(
                lambda train_patients, test_patients: np.isin(test_patients, train_patients).sum(),
                "that is a number of images: divide by the number of test images.",
            ),
            Wrong(
                lambda train_patients, test_patients: 1 - leaked(train_patients, test_patients),
                "that is the share without a leak: take the others.",
            ),
        ),
        other=Wrong(lambda train_patients, test_patients: 0.123, "another share is expected."),
    ),
}
