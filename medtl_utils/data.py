"""Tasks: labelled images, split by patient, with a test set that opens once and leaves a trace."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from . import ledger
from .grouping import TWIN_CORRELATION, find_twins, fold_rows, near_copies  # noqa: F401
from .paths import data_folder, output_folder  # noqa: F401


class DataError(ValueError):
    """A data or weight file is missing or damaged; the message names it and the remedy."""


class TestSetOpened(RuntimeError):
    """The locked test set was asked for a second time."""

    __test__ = False  # the name begins with Test: pytest must not collect it


@dataclass
class Split:
    """One part of a task: images with labels, and whatever else the source tells.

    images: torch uint8 (N, C, H, W). labels: torch int64 (N,), indices of `classes`. positive: the
    index of disease, or None. The rest is None where the source does not tell or nobody looked:
    patients: NumPy str (N,). masks: torch bool (N, H, W). descriptors: name -> NumPy array (N,).
    twins: NumPy bool (N,), True where a near-copy lies in another part. near_copies: NumPy int
    (N,), equal for near-copies, also across training and validation of one task. ids: NumPy str
    (N,), the name of each image in its archive; it does not depend on the size in pixels or on
    which images are labelled. Raises ValueError where these do not fit together.
    """

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    positive: int | None = None
    patients: np.ndarray | None = None
    masks: torch.Tensor | None = None
    descriptors: dict[str, np.ndarray] | None = None
    twins: np.ndarray | None = None
    near_copies: np.ndarray | None = None
    ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, last = len(self.images), len(self.classes) - 1
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise ValueError(
                f"{self.name}: images must be torch uint8 of shape (N, C, H, W); got "
                f"{self.images.dtype} {tuple(self.images.shape)}. Scale pixels to 0..255 and call "
                ".to(torch.uint8) first."
            )
        if self.labels.shape != (n,) or self.labels.dtype != torch.int64:
            raise ValueError(
                f"{self.name}: labels must be torch int64 of shape ({n},); got "
                f"{self.labels.dtype} {tuple(self.labels.shape)}."
            )
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) <= last:
            raise ValueError(
                f"{self.name}: labels must lie in 0..{last} ({', '.join(self.classes)}); found "
                f"{int(self.labels.min())}..{int(self.labels.max())}. Renumber the labels or name "
                "all classes."
            )
        if self.positive is not None and not 0 <= self.positive <= last:
            raise ValueError(
                f"{self.name}: positive must be a class index 0..{last}; got {self.positive}."
            )
        for what, values in self._columns().items():
            if len(values) != n:
                raise ValueError(
                    f"{self.name}: {what} must have one entry an image ({n}); got {len(values)}."
                )

    def _columns(self) -> dict:
        """What stands beside images and labels, one entry an image: name -> array or tensor."""
        names = ("patients", "masks", "twins", "near_copies", "ids")
        columns = {name: getattr(self, name) for name in names}
        columns |= {f"descriptors[{k!r}]": v for k, v in (self.descriptors or {}).items()}
        return {name: values for name, values in columns.items() if values is not None}

    @property
    def groups(self) -> np.ndarray:
        """(N,) what must stay together: patients, else near-copies, else each image its own."""
        if self.patients is not None:
            return np.asarray(self.patients)
        return np.arange(len(self)) if self.near_copies is None else np.asarray(self.near_copies)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index) -> Split:
        """The part chosen by a boolean mask, an index array or a slice; all stays aligned."""
        chosen = index if isinstance(index, slice) else np.asarray(index)
        rows = np.arange(len(self))[chosen].reshape(-1)
        pick = lambda values: None if values is None else values[rows]
        described = self.descriptors
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            patients=pick(self.patients),
            masks=pick(self.masks),
            twins=pick(self.twins),
            near_copies=pick(self.near_copies),
            ids=pick(self.ids),
            descriptors=None if described is None else {k: v[rows] for k, v in described.items()},
        )

    def __repr__(self) -> str:
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        known = self.patients is not None
        people = f"{len(set(self.patients))} patients" if known else "patients unknown"
        each = ", ".join(f"{c} {name}" for c, name in zip(counts, self.classes))
        shape = "×".join(map(str, self.images.shape[1:]))
        return f"Split({self.name}: {len(self)} images of {shape}, {people}; {each})"


@dataclass
class Task:
    """A classification task: training, validation and, if there is one, a locked test set.

    `print(task.card)` before using it. `openings` has one dict for each opening of the test set
    through this object: task, reason, opening (1, 2, ...), before (all earlier openings of the
    same test set, whoever loaded it), log (only where the ledger could not be written).
    """

    name: str
    train: Split
    val: Split
    card: str = ""
    _test: Split | None = None
    openings: list[dict] = field(default_factory=list)
    _before: list[dict] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def positive(self) -> int | None:
        return self.train.positive

    def open_test(self, reason: str, reopen: bool = False) -> Split:
        """The test set, once. Score all models you will report, frozen before, at one opening.

        A second call raises TestSetOpened, unless reopen=True. `reason` goes into `openings` and,
        with the time, into the ledger on disk. Where the ledger knows earlier openings of the
        same test set, one line says so. Raises ValueError without a reason or a test set.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(
                "Say in one line why the test set is opened: task.open_test(reason='final result')."
            )
        if self._test is None:
            raise ValueError(
                f"Task {self.name!r} has no test set (folds have none). Call open_test on the task "
                "that you loaded, or give your own one: Task(name, train, val, card, test)."
            )
        if self.openings and not reopen:
            raise TestSetOpened(
                f"The test set of {self.name!r} was opened before, for: "
                f"{self.openings[0]['reason']!r}. Choices made after that make its numbers too "
                "good. Choose on validation; if you must, open_test(reason, reopen=True)."
            )
        earlier = ledger.read(self._test_key)
        if self._before is None:
            self._before = earlier
        ledger.tell_once(self._test_key, earlier)
        short = self.name.replace("\\", "/").rsplit("/", 1)[-1]  # a name may hold a folder's path
        entry = {"task": short, "reason": reason, "opening": len(self.openings) + 1}
        entry["before"] = max(len(earlier), len(self.openings))
        self.openings.append(entry)
        try:
            ledger.append(self._test_key, entry)
        except OSError:
            entry["log"] = "not written: the ledger's folder is read-only"
        return self._test

    def openings_before(self) -> list[dict[str, str]]:
        """Openings of this test set, by anybody on this machine, before this task's first one.

        Dicts of time (ISO, local) and reason, oldest first; `ledger.sentence` words them.
        """
        if self._test is None:
            return []
        return ledger.read(self._test_key) if self._before is None else self._before

    @cached_property
    def _test_key(self) -> str:
        return ledger.content_key(
            self._test.ids, self._test.labels.numpy(), self._test.images.numpy()
        )

    def folds(self, k: int = 5, seed: int = 0) -> list[Task]:
        """k tasks without a test set, from training and validation images together.

        Every image is validation in exactly one of them. Patients, or near-copies where patients
        are unknown, stay together; classes are balanced (StratifiedGroupKFold of scikit-learn,
        shuffled with `seed`). Raises ValueError where a class has fewer than k groups.
        """
        whole = _joined(self.train, self.val)
        rows = fold_rows(whole.labels.numpy(), whole.groups, whole.classes, k, seed)
        made = []
        for number, (train, val) in enumerate(rows, start=1):
            sides = (replace(whole[r], name=n) for n, r in (("train", train), ("val", val)))
            card = f"{self.card}\nFold {number} of {k}, seed {seed}: {len(train)} images to train, "
            card += f"{len(val)} to validate; no test set."
            made.append(Task(f"{self.name}, fold {number} of {k}", *sides, card.lstrip()))
        return made

    def __repr__(self) -> str:
        if self._test is None:
            last = "no test set"
        else:
            opened = len(self.openings)
            last = f"test set: {len(self._test)} images, "
            last += f"opened {opened} time(s)" if opened else "locked"
            if earlier := self.openings_before():
                last += f"; {ledger.sentence(earlier)}"
        return f"Task({self.name!r})\n  {self.train}\n  {self.val}\n  {last}"


def _joined(first: Split, second: Split) -> Split:
    """Two splits as one, in this order; what only one of them tells is an error."""
    if (first.images.shape[1:], first.classes) != (second.images.shape[1:], second.classes):
        raise ValueError(
            f"{first.name} and {second.name} differ in image size or classes and cannot be joined."
        )
    joined = {}
    for what in ("patients", "near_copies", "masks", "ids"):
        pair = [getattr(first, what), getattr(second, what)]
        if (pair[0] is None) != (pair[1] is None):
            raise ValueError(
                f"Only one of {first.name} and {second.name} has {what}. Give {what} to both of "
                "them or to none."
            )
        if pair[0] is not None:
            joined[what] = torch.cat(pair) if what == "masks" else np.concatenate(pair)
    described = [s.descriptors or {} for s in (first, second)]
    shared = [k for k in described[0] if k in described[1]]
    return Split(
        f"{first.name} and {second.name}",
        torch.cat([first.images, second.images]),
        torch.cat([first.labels, second.labels]),
        first.classes,
        first.positive,
        descriptors={k: np.concatenate([d[k] for d in described]) for k in shared} or None,
        **joined,
    )


def check_disjoint(*splits: Split) -> str:
    """Look for patients that are in more than one split; returns a sentence: what was checked.

    Where no split knows its patients, exact copies of images are counted instead. Raises
    ValueError, naming some, for a shared patient, and where only some splits know their patients.
    """
    names = ", ".join(s.name for s in splits)
    unknown = [s.name for s in splits if s.patients is None]
    if len(unknown) == len(splits):
        found = Counter(digest for s in splits for digest in set(_digests(s)))
        copies = sum(times > 1 for times in found.values())
        number = {0: "no image is", 1: "1 image is"}.get(copies, f"{copies} images are")
        return f"patients unknown: only exact copies were looked for; {number} in two of {names}"
    if unknown:
        known = ", ".join(s.name for s in splits if s.patients is not None)
        raise ValueError(
            f"It cannot be checked whether {names} share patients: {', '.join(unknown)} has no "
            f"patients, {known} has. Give patients to all of them or to none."
        )
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            shared = sorted(set(first.patients) & set(second.patients))
            if shared:
                raise ValueError(
                    f"{len(shared)} patient(s) are in both {first.name} and {second.name}, e.g. "
                    f"{', '.join(map(str, shared[:3]))}. A model would be tested on people it has "
                    "seen. Split by patient, not by image."
                )
    return f"no patient is in two of {names}"


def _digests(split: Split) -> list[bytes]:
    """A short hash of each image; images of another shape never agree."""
    shape = str(tuple(split.images.shape[1:])).encode()
    return [hashlib.sha1(shape + image.tobytes()).digest() for image in split.images.numpy()]
