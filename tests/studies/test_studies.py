"""Parts of the studies: splits that leak or not, digits, small sources, groups of near-copies."""

import numpy as np
import torch
from torch import nn

from medtl_utils import save_model, source_model
from medtl_utils.data import Split
from studies import cache, leakage, learning_curve, snippet
from studies.real_images import groups_of
from tests.conftest import make_split

# ---- leakage -------------------------------------------------------------------------------------


def patients_of_four(n: int = 30) -> Split:
    labels = torch.from_numpy(np.repeat(np.random.default_rng(0).integers(0, 2, n), 4))
    images = torch.zeros(4 * n, 1, 2, 2, dtype=torch.uint8)
    people = np.repeat([f"w{k}" for k in range(n)], 4)
    return Split("study", images, labels, ("benign", "malignant"), 1, people)


def splits_as_told(held_out) -> bool:
    """A third is held out, class by class; by image most patients are on both sides, else none."""
    split, shared = patients_of_four(), {}
    for by in ("image", "patient"):
        out = held_out(split, by, 1)
        shared[by] = len(set(split.patients[out]) & set(split.patients[~out]))
        share = abs(split.labels[out].float().mean() - split.labels.float().mean())
        if not 36 <= out.sum() <= 40 or share > 0.1:
            return False
    return shared["patient"] == 0 and shared["image"] > 15


def test_the_splits_leak_or_do_not():
    assert splits_as_told(leakage.held_out)
    assert not splits_as_told(lambda split, by, seed: leakage.held_out(split, "image", seed))
    assert not splits_as_told(lambda split, by, seed: np.arange(len(split)) < len(split) // 3)


def labels_go_by_patient(with_random_labels) -> bool:
    split = patients_of_four()
    dealt = with_random_labels(split, 1).labels
    one_each = all(len(set(dealt[split.patients == p].tolist())) == 1 for p in set(split.patients))
    return one_each and dealt.sum() == split.labels.sum() and bool((dealt != split.labels).any())


def test_random_labels_are_dealt_to_patients():
    def to_images(split, seed):
        order = np.random.default_rng(seed).permutation(len(split))
        return Split("s", split.images, split.labels[order], split.classes, 1, split.patients)

    assert labels_go_by_patient(leakage.with_random_labels)
    assert not labels_go_by_patient(to_images)
    assert not labels_go_by_patient(lambda split, seed: split)


# ---- learning curve, snippet ---------------------------------------------------------------------


def test_digits_are_a_task_of_their_own():
    task = learning_curve.digits_task()
    assert len(task.train) == 1400 and len(task.val) == 397 and len(task.classes) == 10
    assert int(task.train.images.max()) == 255 and task.train.images.shape[1:] == (1, 64, 64)
    seen = {i.numpy().tobytes() for i in task.train.images}
    assert not any(i.numpy().tobytes() in seen for i in task.val.images)


def test_digits_are_trained_once_and_give_the_same_start(monkeypatch, tmp_path):
    """Whether they were just trained or read, the random numbers that follow are the same."""
    trainings = []

    def quick() -> dict:
        trainings.append(1)
        torch.manual_seed(1000)
        model = source_model("random")
        return {"weights": cache.bytes_of(save_model(model, tmp_path / "m.safetensors"))}

    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(learning_curve, "train_digits", quick)
    heads = []
    for _ in range(3):
        learning_curve.digits_weights.cache_clear()
        weights = learning_curve.digits_weights()
        torch.manual_seed(5)
        model = cache.model_of(weights)
        heads.append(nn.Linear(4, 4).weight.detach().clone())
    learning_curve.digits_weights.cache_clear()
    assert trainings == [1] and torch.equal(heads[0], heads[1]) and torch.equal(heads[0], heads[2])
    assert isinstance(model, nn.Module) and not model.training


def test_the_order_of_rows_draws_the_same_random_numbers():
    labels = torch.tensor([1, 0, 1, 0, 0])
    following = []
    for order in ("shuffled", "stored", "by class"):
        torch.manual_seed(0)
        rows = snippet.rows_in_order(order, labels)
        assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]
        following.append(float(torch.rand(())))
    assert len(set(following)) == 1
    assert snippet.rows_in_order("by class", labels).tolist() == [1, 3, 4, 0, 2]


def test_every_omission_is_made_by_some_cell():
    assert {*snippet.TRAININGS, *snippet.PREDICTIONS} == {"complete", *snippet.OMISSIONS}
    assert {base for base, _ in snippet.OMISSIONS.values()} <= set(snippet.TRAININGS)


# ---- near-copies ---------------------------------------------------------------------------------


def copies_share_a_group(groups_of) -> bool:
    """A copy, a copy with noise, a copy of the copy; labels play no part."""
    images = make_split("x", 12).images.clone()
    rng = np.random.default_rng(1)
    images[3] = images[0]
    noise = torch.from_numpy(rng.integers(0, 3, images[0].shape).astype(np.uint8))
    images[7], images[9] = images[3] + noise, images[5]
    groups = groups_of(images)
    together = groups[0] == groups[3] == groups[7] and groups[5] == groups[9]
    return bool(together) and set(groups) == set(range(9))


def test_groups_of_near_copies():
    assert copies_share_a_group(groups_of)
    assert not copies_share_a_group(lambda images: np.arange(len(images)))
    assert not copies_share_a_group(lambda images: np.arange(len(images)) % 9)
