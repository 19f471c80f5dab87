"""The same fine-tuning in several processes: on several graphics cards, or several machines.

    torchrun --nproc-per-node 2 -m medtl_utils.run FOLDER --out results

`fine_tune` of this module is that of `training` where there is one process. Where `torchrun` or
`accelerate launch` started several, each of them takes its part of every batch (Hugging Face
Accelerate connects them; the extra `machines` installs it):

* The batch of all processes together is `batch_size` images, whatever their number. Each process
  draws and augments the whole batch, in the same way, and computes its own part of it.
* The outputs of all parts are put together before the loss. So the loss is that of one process,
  with class weights and for parts of unequal size, too; it is no mean of means. The gradients of
  the parts are added.
* BatchNorm in training mode sees its own part alone, unless it is frozen or SyncBatchNorm. The
  running statistics of the first process count, as in PyTorch's DistributedDataParallel.
* The first process alone reads and writes the checkpoint; the others are told what it holds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import training
from .augmentation import augment
from .checkpoint import resume, store
from .checks import check_run
from .data import DataError
from .fingerprint import describe_run


def several() -> bool:
    """Whether `torchrun` or `accelerate launch` started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ


def is_first() -> bool:
    """Whether this is the process that writes files and prints; the only one is the first."""
    return not several() or int(os.environ["RANK"]) == 0


def _connected():
    """Accelerate's state; the first call connects the processes (NCCL on CUDA, gloo on CPUs)."""
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise DataError(
            'Several processes need Accelerate: pip install -e ".[machines]" in each environment.'
        ) from error
    return PartialState(cpu=not torch.cuda.is_available())


def from_first(value: Any) -> Any:
    """The first process's `value`, in every process; all of them must call it.

    Values travel as pickles between the processes of one run; no file is involved.
    """
    if not several():
        return value
    _connected()  # says what to install where Accelerate is missing
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def disconnect() -> None:
    """End the connection, where there is one; call it last."""
    if several():
        _connected().destroy_process_group()


def fine_tune(
    model: nn.Module,
    task,
    epochs: int = 10,
    lr: float | list[dict] = 1e-3,
    batch_size: int = 32,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    *,
    augmented: bool = True,
    augment=augment,
    loss=None,
    class_weights: torch.Tensor | None = None,
) -> dict[str, list[float]]:
    """`training.fine_tune` with one process, or with all that were started: the same arguments.

    Every process calls it with the same arguments and ends with the same weights and history. Call
    it in all processes or in none: they wait for each other. The weights at the start are those of
    the first process. A checkpoint belongs to one number of processes. `loss` gets the outputs and
    labels of the whole batch. Raises as `training.fine_tune`, and ValueError where a process has
    other data or arguments than the first, or `batch_size` gives a process less than two images.
    """
    used = augment if augmented else None
    kind = _SharedRun if several() else training._Run
    run = kind(model, task, epochs, lr, batch_size, seed, used, loss, class_weights)
    check_run(run)
    return run.train(None if checkpoint is None else Path(checkpoint), progress)


def parts_of(n: int, processes: int) -> list[slice]:
    """The part of each process in a batch of `n` images: neighbours, sizes that differ by one.

    A batch with less than two images a process is computed whole by all of them: BatchNorm cannot
    use one image.
    """
    if n < 2 * processes:
        return [slice(0, n)] * processes
    ends = [n * number // processes for number in range(processes + 1)]
    return [slice(start, end) for start, end in zip(ends, ends[1:])]


class _Together(nn.Module):
    """A network as all processes compute it: this process its part of the batch, then all outputs.

    Stands in for `network` in the loop of one process. Input: the whole batch. Output: float32
    (N, n_outputs) of the whole batch; the gradient reaches this process's part alone.
    """

    def __init__(self, network: nn.Module, rank: int, world: int):
        super().__init__()
        self.network, self.normalisation = network, network.normalisation
        self.rank, self.world = rank, world
        self.whole = False  # whether each process had the whole of the last training batch

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        parts = parts_of(len(batch), self.world)
        whole = parts[0] == parts[-1]
        if self.training:
            self.whole = whole
        # the parts draw dropout for themselves; then all go on from the common random state, so
        # that the next batch is augmented in the same way everywhere
        common = torch.get_rng_state()
        if self.training and not whole:
            torch.manual_seed(int(torch.randint(2**40, ())) + self.rank)
        own = self.network(batch[parts[self.rank]]).float()
        torch.set_rng_state(common)
        return own if whole else self.joined(own, [part.stop - part.start for part in parts])

    def joined(self, own: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        """The outputs of all parts in the order of the batch: `own`, and the others' numbers."""
        from accelerate.utils import gather

        padded = own.detach().new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own.detach()
        every = gather(padded).split(max(sizes))
        parts = [values[:n] for values, n in zip(every, sizes)]
        parts[self.rank] = own
        return torch.cat(parts)

    def add_gradients(self) -> None:
        """The gradients of all parts, added, in one message; averaged where each had the whole."""
        from accelerate.utils import reduce

        weights = [p for p in self.network.parameters() if p.grad is not None]
        message = torch.cat([p.grad.flatten() for p in weights])
        total = reduce(message, "mean" if self.whole else "sum")
        for weight, values in zip(weights, total.split([p.numel() for p in weights])):
            weight.grad.copy_(values.view(weight.shape))


class _SharedRun(training._Run):
    """One training in several processes; only what differs from one process stands here."""

    def train(self, checkpoint: Path | None, progress: bool) -> dict[str, list[float]]:
        """All epochs, from the first process's checkpoint on where there is one."""
        state = self.connected()
        first, device, model = state.is_main_process, state.device, self.model
        history: dict[str, list[float]] = {"train_loss": []}
        progress = progress and first
        try:
            share(model.state_dict())
            identity = self.identity(state.num_processes)
            model.to(device, memory_format=training._layout(self.task.train.images))
            self.model = _Together(model, state.process_index, state.num_processes)
            optimizer, schedule = self.optimiser()
            optimizer.register_step_pre_hook(lambda *_: self.model.add_gradients())
            here = checkpoint is not None and first and checkpoint.is_file()
            content = from_first(checkpoint.read_bytes() if here else None)
            if content is not None:
                history = resume(checkpoint, model, optimizer, schedule, identity, content)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                for epoch in range(len(history["train_loss"]), self.epochs):
                    torch.manual_seed(1_000_003 * (self.seed + 1) + epoch)
                    values = {"train_loss": self.epoch(epoch, optimizer, schedule, progress)}
                    share(dict(model.named_buffers()))  # BatchNorm's, which differ by part
                    for name, value in (values | self.validate()).items():
                        history.setdefault(name, []).append(value)
                    if checkpoint is not None and first:
                        store(checkpoint, model, optimizer, history, identity)
                    if progress:
                        ends = (f"{k.replace('_', ' ')} {v[-1]:.3f}" for k, v in history.items())
                        print(f"epoch {epoch + 1}/{self.epochs}  " + "  ".join(ends), flush=True)
        finally:
            self.model = model
            model.zero_grad()
            model.to("cpu", memory_format=torch.contiguous_format).eval()
        return history

    def connected(self):
        """Accelerate's state, if the batch is large enough for its processes."""
        state = _connected()
        if self.batch_size < 2 * state.num_processes:
            raise ValueError(
                f"batch_size {self.batch_size} gives less than two images to each of "
                f"{state.num_processes} processes. It counts the images of all processes "
                "together: raise it, or start fewer processes."
            )
        return state

    def identity(self, world: int) -> dict:
        """What makes this run the same one; refuses processes that were given different things."""
        from accelerate.utils import gather_object

        told = describe_run(self, training.WEIGHT_DECAY) | {"processes": world}
        first = from_first(told)
        # all stop together: one that went on would wait for the others for ever
        differences = gather_object([[key for key in told if told[key] != first.get(key)]])
        for number, names in enumerate(differences):
            if names:
                raise ValueError(
                    f"Process {number} was not given what process 0 has. It differs in: "
                    f"{', '.join(names)}. Call fine_tune with the same data and arguments."
                )
        return told


def share(tensors: dict[str, torch.Tensor]) -> None:
    """Put the first process's numbers into these tensors, in place, in every process."""
    kept = {name: value.cpu() for name, value in tensors.items()} if is_first() else None
    for name, value in from_first(kept).items():
        tensors[name].data.copy_(value)
