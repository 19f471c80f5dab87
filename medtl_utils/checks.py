"""What can be known to be wrong before a training starts, each with its remedy."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from .architectures import head_of
from .data import check_disjoint


def check_run(run) -> None:
    """Raise ValueError where this training cannot work. `run`: what `fine_tune` was given."""
    check_splits(run.task)
    if not hasattr(run.model, "normalisation"):
        raise ValueError(
            "The model has no `normalisation`: load it with source_model, or set it as in "
            "notebook 05."
        )
    if run.loss is None:
        check_classification(run.model, run.task)
    elif run.class_weights is not None:
        raise ValueError("class_weights belong to the default loss. Weigh inside your own `loss`.")
    check_parameters(run)
    n = len(run.task.train.labels)
    if run.epochs < 1 or run.batch_size < 2:
        raise ValueError(
            "epochs must be at least 1 and batch_size at least 2; "
            f"got {run.epochs} and {run.batch_size}."
        )
    if n < run.batch_size:
        raise ValueError(
            f"{n} training images are fewer than one batch of {run.batch_size}. "
            "Lower batch_size or label more."
        )


def check_splits(task) -> None:
    """Both parts hold data, and no patient is in both."""
    parts = [
        SimpleNamespace(
            name=getattr(split, "name", name), patients=getattr(split, "patients", None)
        )
        for name, split in (("train", task.train), ("val", task.val))
    ]
    if any(part.patients is not None for part in parts):
        check_disjoint(*parts)
    for part, split in zip(parts, (task.train, task.val)):
        if len(split.images) != len(split.labels) or not len(split.labels):
            raise ValueError(
                f"The {part.name} set needs one label an image, and at least one image; got "
                f"{len(split.images)} images and {len(split.labels)} labels."
            )


def n_classes(task) -> int:
    """Classes that the task names, else one more than the highest label."""
    for thing in (task.train, task):
        if getattr(thing, "classes", None) is not None:
            return len(thing.classes)
    return 1 + max(int(split.labels.max()) for split in (task.train, task.val))


def check_classification(model: nn.Module, task) -> None:
    """What cross-entropy needs: whole numbers as labels, one output a class, two classes."""
    if task.train.labels.is_floating_point():
        raise ValueError(
            "The labels are not whole numbers, and the default loss is for classes. "
            "Give a loss, e.g. loss=lambda outputs, y: F.mse_loss(outputs[:, 0], y)."
        )
    n_outputs, wanted = head_of(model)[1].out_features, n_classes(task)
    if n_outputs != wanted:
        raise ValueError(
            f"The head has {n_outputs} outputs, the task {wanted} classes. "
            f"Call replace_head(model, {wanted}) first, or give a loss for these outputs."
        )
    for name, split in (("train", task.train), ("val", task.val)):
        if len(torch.unique(split.labels)) < 2:
            raise ValueError(
                f"The {getattr(split, 'name', name)} set holds one class only; a classifier needs "
                "two. Label more images or use another seed."
            )


def one_output_a_class(outputs: torch.Tensor, task) -> bool:
    """Whether these are a classifier's outputs for the task's classes: then there is an AUC."""
    labels = task.val.labels
    if labels.is_floating_point() or labels.ndim != 1 or len(torch.unique(labels)) < 2:
        return False
    return outputs.ndim == 2 and outputs.shape[1] == n_classes(task) >= 2


def check_parameters(run) -> None:
    """Something can learn, and the learning rates are for parameters of this model."""
    if not any(p.requires_grad for p in run.model.parameters()):
        raise ValueError(
            "Every parameter is frozen, so nothing can learn. "
            "Call freeze(model, through=...) again."
        )
    own = {id(p) for p in run.model.parameters()}
    if any(id(p) not in own for group in run.groups() for p in group["params"]):
        raise ValueError(
            "`lr` holds parameters that are not the model's, such as those of an older head. "
            "Call param_groups(model) last, after replace_head."
        )
