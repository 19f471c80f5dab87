"""The training loops that `studies.speed` races: the helper's, the plain one, three frameworks.

All get the same network, images, batches (those of `fine_tune`), augmentation (`AUGMENT`), AdamW
and one-cycle rates, and look at the validation images after every epoch. What differs is what a
loop does by itself: PIL images one by one or tensors by the group, float32 or bfloat16, the layout
of memory, and the work between two steps.

Plain loop: PyTorch, "Transfer Learning for Computer Vision Tutorial". fastai: "Pytorch to fastai
details" (a Learner takes PyTorch's loaders). Lightning: its Trainer. skorch: NeuralNetClassifier.
"""

from __future__ import annotations

import importlib.util
import logging
import time
import warnings
from dataclasses import dataclass, field
from unittest import mock

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from medtl_utils import training
from medtl_utils.augmentation import AUGMENT
from medtl_utils.data import Task

LR = 1e-3
INSTALL = (
    "python3 -m venv .venv-speed && .venv-speed/bin/python -m pip install -c constraints.txt "
    "-r studies/speed_frameworks.txt --editable ."
)


@dataclass
class Job:
    """One training: network, task, and how long. `began` is set at its first batch."""

    model: nn.Module
    task: Task
    batch: int
    epochs: int
    seed: int
    augmented: bool = True
    began: tuple[float, float] | None = field(default=None, init=False)

    @property
    def steps(self) -> int:
        return self.epochs * -(-len(self.task.train) // self.batch)

    def begin(self) -> None:
        if self.began is None:
            self.began = time.perf_counter(), time.process_time()

    def loaders(self) -> tuple[DataLoader, DataLoader]:
        """PyTorch's loaders of training and validation images, in this process."""
        train = Images(self.task.train, self.model.normalisation, self.augmented)
        val = Images(self.task.val, self.model.normalisation, False)
        return DataLoader(train, batch_sampler=Batches(self)), DataLoader(val, self.batch)

    def recipe(self, params) -> tuple[torch.optim.Optimizer, OneCycleLR]:
        optimizer = torch.optim.AdamW(params, lr=LR, weight_decay=training.WEIGHT_DECAY)
        return optimizer, OneCycleLR(optimizer, LR, total_steps=self.steps)


class Batches(Sampler):
    """The batches of `fine_tune` with the same seed, epoch after epoch."""

    def __init__(self, job: Job):
        self.job, self.epoch = job, 0

    def __len__(self) -> int:
        return self.job.steps // self.job.epochs

    def __iter__(self):
        self.job.begin()
        torch.manual_seed(1_000_003 * (self.job.seed + 1) + self.epoch)
        self.epoch += 1
        for rows in torch.randperm(len(self.job.task.train)).split(self.job.batch):
            yield rows.tolist()


class Images(Dataset):
    """Images as tutorials read them: one PIL image at a time -> (float32 (3, H, W), label)."""

    def __init__(self, split, normalisation, augmented: bool):
        self.images, self.labels = split.images.numpy(), split.labels.tolist()
        steps = [transforms.ToTensor(), transforms.Normalize(normalisation.mean, normalisation.std)]
        self.transform = transforms.Compose([AUGMENT, *steps] if augmented else steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(self.images[row, 0]).convert("RGB")
        return self.transform(image), self.labels[row]


def ours(job: Job, bfloat16: bool = True) -> None:
    """`fine_tune`. Its whole call counts; of other loops, what comes from the first batch on."""
    native = bfloat16 and training.native_bfloat16()
    with mock.patch.object(training, "native_bfloat16", return_value=native):
        job.begin()
        training.fine_tune(
            job.model,
            job.task,
            epochs=job.epochs,
            lr=LR,
            batch_size=job.batch,
            seed=job.seed,
            progress=False,
            augmented=job.augmented,
        )


def plain(job: Job, bfloat16: bool = False) -> None:
    """The loop of PyTorch's tutorial; `bfloat16`: with autocast and channels-last beside it."""
    model, (train, val) = job.model, job.loaders()
    layout = torch.channels_last if bfloat16 else torch.contiguous_format
    model.to(memory_format=layout)
    optimizer, schedule = job.recipe(model.parameters())
    cast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
    for _ in range(job.epochs):
        total = 0.0
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            with cast():
                loss = F.cross_entropy(model(images.to(memory_format=layout)), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(labels)
        model.eval()
        with torch.no_grad(), cast():
            for images, labels in val:
                outputs = model(images.to(memory_format=layout))
                total += F.cross_entropy(outputs, labels).item()


def fastai(job: Job) -> None:
    """fastai's Learner; its fit_one_cycle counts steps otherwise, so PyTorch's rates stand in."""
    from functools import partial

    import fastai.callback.progress  # noqa: F401  (no_bar of a Learner)
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    class Rates(Callback):
        def before_fit(self):
            self.rates = OneCycleLR(self.learn.opt.opt, LR, total_steps=job.steps)

        def after_step(self):
            self.rates.step()

    learner = Learner(
        DataLoaders(*job.loaders(), device=torch.device("cpu")),
        job.model,
        loss_func=nn.CrossEntropyLoss(),
        opt_func=partial(OptimWrapper, opt=torch.optim.AdamW),
        wd=training.WEIGHT_DECAY,
        wd_bn_bias=True,
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(job.epochs, LR, cbs=Rates())


def lightning(job: Job, precision: str = "32-true") -> None:
    """Lightning's Trainer without logger, progress bar and checkpoints."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    job.model.train()  # Lightning leaves the mode as it finds it

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = job.model

        def training_step(self, batch, _):
            loss = F.cross_entropy(self.model(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, _):
            self.log("val_loss", F.cross_entropy(self.model(batch[0]), batch[1]))

        def configure_optimizers(self):
            optimizer, schedule = job.recipe(self.parameters())
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = lightning.Trainer(
        max_epochs=job.epochs,
        accelerator="cpu",
        devices=1,
        precision=precision,
        num_sanity_val_steps=0,
        **dict.fromkeys(off, False),
    )
    with warnings.catch_warnings():  # more worker processes: not on one core
        warnings.simplefilter("ignore")
        trainer.fit(Module(), *job.loaders())


def skorch(job: Job) -> None:
    """skorch's NeuralNetClassifier with its usual callbacks."""
    from skorch import NeuralNetClassifier
    from skorch.callbacks import LRScheduler
    from skorch.helper import predefined_split

    train, val = job.loaders()
    rates = LRScheduler(OneCycleLR, step_every="batch", max_lr=LR, total_steps=job.steps)
    net = NeuralNetClassifier(
        job.model,
        criterion=nn.CrossEntropyLoss,
        classes=list(range(len(job.task.classes))),
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=training.WEIGHT_DECAY,
        lr=LR,
        max_epochs=job.epochs,
        batch_size=job.batch,
        iterator_train=lambda _data, **_: train,
        train_split=predefined_split(val.dataset),
        callbacks=[("rates", rates)],
        verbose=0,
    )
    net.fit(train.dataset, y=None)


OURS = "fine_tune"
LOOPS = {  # name -> (function, framework to be installed, further arguments)
    OURS: (ours, None, {}),
    "fine_tune, float32": (ours, None, {"bfloat16": False}),
    "plain PyTorch": (plain, None, {}),
    "plain PyTorch, bfloat16 and channels-last": (plain, None, {"bfloat16": True}),
    "fastai": (fastai, "fastai", {}),
    "Lightning": (lightning, "lightning", {}),
    "Lightning, bf16-mixed": (lightning, "lightning", {"precision": "bf16-mixed"}),
    "skorch": (skorch, "skorch", {}),
}


def must_be_there(names) -> None:
    """Raises ModuleNotFoundError where a framework of `names` is missing: no row is left out."""
    wanted = {LOOPS[name][1] for name in names} - {None}
    missing = sorted(m for m in wanted if importlib.util.find_spec(m) is None)
    if missing:
        raise ModuleNotFoundError(
            f"{', '.join(missing)} not installed. Make their environment: {INSTALL}\nthen run "
            ".venv-speed/bin/python -m studies.speed, or name the loops to race: --only NAME ..."
        )


def run_loop(name: str, job: Job) -> int:
    """Train job.model by loop `name`; returns the number of updates that optimisers made."""
    made = []
    handle = register_optimizer_step_post_hook(lambda *_: made.append(1))
    try:
        function, _, arguments = LOOPS[name]
        function(job, **arguments)
    finally:
        handle.remove()
    job.model.to(memory_format=torch.contiguous_format).eval()
    return len(made)
