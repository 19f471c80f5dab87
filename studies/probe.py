"""A linear probe: logistic regression on a frozen network's features, written into its head."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from medtl_utils.architectures import head_of
from medtl_utils.data import Split


@torch.no_grad()
def features_of(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """What the network hands to its head, float32 (N, features), in evaluation mode."""
    name, head = head_of(model)
    setattr(model, name, nn.Identity())
    try:
        model.eval()
        parts = [model(model.normalisation(part)) for part in images.split(64)]
        return torch.cat(parts).numpy()
    finally:
        setattr(model, name, head)


def set_head(model: nn.Module, split: Split, C: float) -> nn.Module:
    """Fit the head, of two outputs, to the standardised features of `split`; `C` as scikit-learn's.

    Returns the same model, in evaluation mode.
    """
    features = features_of(model, split.images)
    scaler = StandardScaler().fit(features)
    found = LogisticRegression(C=C, max_iter=5000).fit(scaler.transform(features), split.labels)
    weight = torch.tensor(found.coef_[0] / scaler.scale_, dtype=torch.float32)
    bias = torch.tensor(found.intercept_[0], dtype=torch.float32)
    bias = bias - weight @ torch.tensor(scaler.mean_, dtype=torch.float32)
    head = head_of(model)[1]
    with torch.no_grad():
        head.weight.copy_(torch.stack([-weight / 2, weight / 2]))
        head.bias.copy_(torch.stack([-bias / 2, bias / 2]))
    return model.eval()
