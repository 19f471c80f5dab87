"""One network of the evidence: its source, and its training."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from medtl_utils import fine_tune, freeze, load_model, param_groups, replace_head, source_model
from medtl_utils.data import Split
from studies.evidence_plan import ARMS, weights_of
from studies.probe import set_head


def start(arm: str, repetition: int) -> nn.Module:
    """The arm's source with a new head; torch's seed is set."""
    source = ARMS[arm][0]
    if source in ("ultrasound", "shapes"):
        return replace_head(load_model(weights_of(arm, repetition)), 2)
    return replace_head(source_model(source), 2)


def fitted(arm: str, repetition: int, train: Split, recipe: dict, seed: int) -> tuple:
    """The arm's network after training, and its loss in each epoch (none for a probe)."""
    torch.manual_seed(seed)
    model = start(arm, repetition)
    if "C" in recipe:
        return set_head(model, train, recipe["C"]), []
    freeze(model, through=None, batchnorm=recipe["batchnorm"])
    # nothing is chosen by validation: two images, one of a class, keep it short
    few = train[[int((train.labels == c).nonzero()[0]) for c in (0, 1)]]
    history = fine_tune(
        model,
        SimpleNamespace(train=train, val=few),
        epochs=recipe["epochs"],
        lr=param_groups(model, recipe["lr"], recipe["decay"]),
        batch_size=recipe["batch_size"],
        seed=seed,
        progress=False,
        augmented=recipe.get("augmented", True),
    )
    return model, history["train_loss"]
