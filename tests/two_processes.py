"""What `torchrun` starts twice: a training that is killed, gradients, and planted mistakes.

    torchrun --standalone --nproc-per-node 2 -m tests.two_processes FOLDER

The first call ends when the second process kills itself; the same call again goes on from there.

Each process writes FOLDER/RANK.json: "gradients" has the relative difference between two processes
and one for each variant, the norm of the difference over the norm, the worst of all steps. float32
everywhere: bfloat16 rounds more than the parts differ.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from medtl_utils import processes, training
from medtl_utils.augmentation import augment
from medtl_utils.models import replace_head, set_batchnorm, source_model
from tests.conftest import make_split
from tests.kills import small

training.autocast = lambda device: contextlib.nullcontext()
RANK = int(os.environ.get("RANK", "0"))
WEIGHTS = torch.tensor([1.0, 3.0])
# 29 images in batches of 13, 13 and 3: parts of 6 and 7, and a batch too small to be shared out.
# The rate is too low to change a weight: every step is compared at the same weights.
SETTINGS = {"epochs": 1, "lr": 1e-12, "batch_size": 13, "progress": False, "class_weights": WEIGHTS}


def task() -> SimpleNamespace:
    return SimpleNamespace(train=make_split("train", 29), val=make_split("val", 11, seed=1))


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return replace_head(source_model("random"), 2)


def network(batchnorm: str, made=small, dtype: torch.dtype = torch.float32) -> nn.Module:
    model = made()
    set_batchnorm(model, batchnorm)
    normalise = model.normalisation
    model.normalisation = lambda images: normalise(images).to(dtype)
    return model.to(dtype)


def gradients(fine_tune, model: nn.Module, **more) -> list[torch.Tensor]:
    """The gradient of each step as one vector."""
    steps: list[torch.Tensor] = []

    def note(*_):
        found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        steps.append(torch.cat(found).clone())

    handle = register_optimizer_step_post_hook(note)
    try:
        fine_tune(model, task(), **(SETTINGS | more))
    finally:
        handle.remove()
    return steps


def difference(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    assert len(found) == len(wanted) == 3
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted))


class Same:
    """An augmentation that is the same one by its description, whatever it does."""

    function = staticmethod(augment)

    def __call__(self, images):
        return type(self).function(images)


# ---- planted mistakes ----------------------------------------------------------------------------


@contextlib.contextmanager
def mean_of_means():
    """Each process takes the mean loss of its own part; the gradients are averaged."""
    right, add = training._Run.loss_of, processes._Together.add_gradients

    def own_mean(run, outputs, labels):
        part = slice(None)
        if torch.is_grad_enabled() and isinstance(run.model, processes._Together):
            part = processes.parts_of(len(labels), 2)[RANK]
        return right(run, outputs[part], labels[part])

    def average(together):
        together.whole = True
        add(together)

    training._Run.loss_of, processes._Together.add_gradients = own_mean, average
    yield {}
    training._Run.loss_of, processes._Together.add_gradients = right, add


@contextlib.contextmanager
def own_augmentation():
    """Each process augments the batch in a way of its own."""

    def by_rank(images):
        with torch.random.fork_rng():
            torch.manual_seed(RANK)
            return augment(images)

    Same.function = staticmethod(by_rank)
    yield {"augment": Same()}
    Same.function = staticmethod(augment)


# ---- SyncBatchNorm: PyTorch's own needs a GPU, so it is computed by hand -------------------------


class Summed(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        return Summed.forward(ctx, gradient.contiguous())


class Synchronised(nn.Module):
    """BatchNorm in training by the mean and variance of all parts (no running statistics)."""

    def __init__(self, layer: nn.BatchNorm2d):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        if not self.training:
            return self.layer(x)
        n = Summed.apply(x.new_tensor(x.numel() / x.shape[1]))
        mean = Summed.apply(x.sum((0, 2, 3), keepdim=True)) / n
        variance = Summed.apply(((x - mean) ** 2).sum((0, 2, 3), keepdim=True)) / n
        weight, bias = (p[:, None, None] for p in (self.layer.weight, self.layer.bias))
        return (x - mean) / (variance + self.layer.eps).sqrt() * weight + bias


def synchronised(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, Synchronised(child))
        else:
            synchronised(child)
    return module


def torchs_own() -> str:
    """What torch.nn.SyncBatchNorm says to a batch on the CPU; empty where it computes."""
    try:
        nn.SyncBatchNorm(2)(torch.randn(4, 2, 3, 3))
    except (ValueError, RuntimeError) as error:
        return str(error)
    return ""


# ---- what the two processes do -------------------------------------------------------------------


def compared() -> dict[str, float]:
    """Variant -> relative difference of the gradients of two processes from those of one."""
    one, two = training.fine_tune, processes.fine_tune
    frozen = gradients(one, network("frozen", resnet))
    found = {"frozen": difference(gradients(two, network("frozen", resnet)), frozen)}
    exact = {"batchnorm": "train", "dtype": torch.float64}
    trained = gradients(one, network(**exact))
    found["train"] = difference(gradients(two, network(**exact)), trained)
    by_hand = synchronised(network(**exact))
    found["synchronised"] = difference(gradients(two, by_hand), trained)
    for planted in (mean_of_means, own_augmentation):
        with planted() as more:
            wanted = gradients(one, network("frozen"), **more)
            found[planted.__name__] = difference(gradients(two, network("frozen"), **more), wanted)
    return found


def refused(**more) -> str:
    try:
        processes.fine_tune(network("frozen"), task(), **(SETTINGS | more))
    except ValueError as error:
        return str(error)
    return ""


def trained(folder: Path, checkpoint: str | None) -> dict:
    """Four epochs; with a checkpoint, the second process kills itself in the third, once."""
    seen = [0]

    def dies(images):
        seen[0] += 1
        if checkpoint and RANK == 1 and seen[0] == 8 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return augment(images)

    Same.function = staticmethod(dies)
    model, own_disk = network("train"), folder / str(RANK)  # as on two machines
    more = {"epochs": 4, "lr": 1e-3, "augment": Same(), "class_weights": None}
    path = own_disk / checkpoint if checkpoint else None
    history = processes.fine_tune(model, task(), checkpoint=path, **(SETTINGS | more))
    Same.function = staticmethod(augment)
    bits = b"".join(v.numpy().tobytes() for v in model.state_dict().values())
    files = [p.name for p in own_disk.iterdir()] if own_disk.is_dir() else []
    weights = hashlib.sha256(bits).hexdigest()
    return {"history": history, "weights": weights, "steps": seen[0], "files": files}


def main(folder: Path) -> None:
    found = {"killed": trained(folder, "run.safetensors"), "whole": trained(folder, None)}
    found["gradients"] = compared()
    found["SyncBatchNorm"] = torchs_own()
    found["small batch"] = refused(batch_size=3)
    found["other seed"] = refused(seed=RANK)
    (folder / f"{RANK}.json").write_text(json.dumps(found))
    processes.disconnect()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
