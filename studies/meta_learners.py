"""What learns from tasks, on features that stay: prototypes, MAML, and one network for all tasks.

All make UPDATES updates with EPISODES episodes each: the same tasks, images and order for each
method with the same seed. The network is the same, too: 64 -> 64 -> 32 numbers, and a head.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.func import functional_call, grad, vmap

from studies.few_shot import NUMBERS, TASKS, TRAIN_QUERIES, dealt

UPDATES, EPISODES, TRAIN_SHOTS = 150, 16, 5
INNER, TEST_STEPS = 5, 10  # steps on the support: in training, and on a new task
RATE = 1e-3  # of MAML's outer step


class Net(nn.Module):
    """Features (N, NUMBERS) -> 32 numbers (body) -> 2 outputs (head)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(NUMBERS, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def labels(each: int) -> torch.Tensor:
    return torch.arange(2).repeat_interleave(each)


def by_prototypes(support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Logits (..., n, 2): minus the squared distance to the mean of each class of the support."""
    half = support.shape[-2] // 2
    means = torch.stack([support[..., :half, :].mean(-2), support[..., half:, :].mean(-2)], -2)
    return -(query.unsqueeze(-2) - means.unsqueeze(-3)).square().sum(-1)


def adapted(net, weights: dict, x, y, rate: float, steps: int, second_order: bool = True) -> dict:
    """The weights after `steps` of gradient descent on the support."""
    loss = lambda w: F.cross_entropy(functional_call(net, w, x), y)
    for _ in range(steps):
        slopes = grad(loss)(weights)
        if not second_order:
            slopes = {name: slope.detach() for name, slope in slopes.items()}
        weights = {name: w - rate * slopes[name] for name, w in weights.items()}
    return weights


def prototype_loss(net, tasks, order, support, query, rate) -> torch.Tensor:
    logits = by_prototypes(net.body(support), net.body(query))
    return F.cross_entropy(logits.flatten(0, 1), labels(TRAIN_QUERIES).repeat(len(logits)))


def maml_loss(net, tasks, order, support, query, rate, second_order=True) -> torch.Tensor:
    weights = dict(net.named_parameters())

    def of_task(x, x_new):
        moved = adapted(net, weights, x, labels(TRAIN_SHOTS), rate, INNER, second_order)
        return F.cross_entropy(functional_call(net, moved, x_new), labels(TRAIN_QUERIES))

    return vmap(of_task)(support, query).mean()


def first_order_loss(*inputs) -> torch.Tensor:
    return maml_loss(*inputs, second_order=False)


def joint_loss(net, tasks, order, support, query, rate) -> torch.Tensor:
    """Support and query are one batch; each task has a head, and keeps its order of values."""
    x, t = torch.cat([support, query], 1), torch.from_numpy(tasks)
    logits = torch.bmm(net.body(x), net.heads[t])
    y = torch.cat([labels(TRAIN_SHOTS), labels(TRAIN_QUERIES)])
    values = torch.from_numpy(order)[:, y]  # labels were dealt anew: back to the values
    return F.cross_entropy(logits.flatten(0, 1), values.flatten())


LOSSES = {
    "joint + probe": joint_loss,
    "prototypical": prototype_loss,
    "MAML": maml_loss,
    "first-order MAML": first_order_loss,
}


def meta_trained(method: str, x: torch.Tensor, tasks: np.ndarray, seed: int, rate: float) -> Net:
    """A network after UPDATES updates. `rate`: MAML's inner rate, or the rate of the others."""
    torch.manual_seed(seed)
    net, rng = Net(), np.random.default_rng([131, seed])
    net.heads = nn.Parameter(torch.randn(len(TASKS), 32, 2) / 32**0.5)
    inner = "MAML" in method
    optimizer = torch.optim.Adam(net.parameters(), RATE if inner else rate)
    if inner:
        net.heads = None
    for _ in range(UPDATES):
        loss = LOSSES[method](net, *dealt(x, tasks, EPISODES, TRAIN_SHOTS, rng), rate)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.requires_grad_(False)


# ---- answers on new tasks ------------------------------------------------------------------------


def by_probe(support: torch.Tensor, query: torch.Tensor, C: float) -> torch.Tensor:
    """Answers (episodes, n) of a logistic regression an episode."""
    y = labels(support.shape[1] // 2).numpy()
    fit = lambda x: LogisticRegression(C=C, max_iter=5000).fit(x.numpy(), y)
    found = [fit(x).predict(x_new.numpy()) for x, x_new in zip(support, query)]
    return torch.from_numpy(np.stack(found))


def answers(method: str, net: Net | None, support, query, rate: float) -> torch.Tensor:
    """Class 0 or 1 of the queries, (episodes, n). `rate`: as in training; C of the plain probe."""
    if method == "nearest centroid":
        return by_prototypes(support, query).argmax(-1)
    if method == "probe":
        return by_probe(support, query, rate)
    if method == "joint + probe":
        return by_probe(net.body(support), net.body(query), C=1.0)
    if method == "prototypical":
        return by_prototypes(net.body(support), net.body(query)).argmax(-1)
    weights, y = dict(net.named_parameters()), labels(support.shape[1] // 2)

    def of_task(x, x_new):
        return functional_call(net, adapted(net, weights, x, y, rate, TEST_STEPS), x_new)

    return vmap(of_task)(support, query).argmax(-1)
