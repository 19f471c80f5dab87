"""Notebook 13: prototypes, episodes, and tasks that keep apart."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F

from studies import few_shot, meta_learners
from tests.chapters.notebook_code import function, namespace
from tests.conftest import ROOT

N = namespace("13")
KEPT = ROOT / "data" / "results" / "meta_learning.npz"

# ---- prototypes ----------------------------------------------------------------------------------


def by_loop(support, query):
    """(classes, queries, classes), one number after the other."""
    classes, queries, _ = query.shape
    found = torch.zeros(classes, queries, classes)
    for c, i, k in itertools.product(range(classes), range(queries), range(classes)):
        prototype = sum(support[k]) / len(support[k])
        found[c, i, k] = -sum((query[c, i] - prototype) ** 2)
    return found


def prototypes_right(by_prototypes) -> bool:
    for seed, (classes, shots, queries) in enumerate(((2, 5, 3), (3, 1, 4), (3, 2, 2))):
        g = torch.Generator().manual_seed(seed)
        support = torch.randn(classes, shots, 6, generator=g)
        query = torch.randn(classes, queries, 6, generator=g)
        if not torch.allclose(by_prototypes(support, query), by_loop(support, query), atol=1e-5):
            return False
    return True


def in_two_classes(support, query):
    """The study's function, which knows two classes, on the notebook's shapes."""
    if len(support) != 2:
        return by_loop(support, query)
    flat = meta_learners.by_prototypes(support.flatten(0, 1), query.flatten(0, 1))
    return flat.view(2, -1, 2)


def test_prototypical_logits_equal_a_loop():
    assert prototypes_right(N["by_prototypes"]) and prototypes_right(in_two_classes)
    for change in (
        ("support.mean(1)", "support.median(1).values"),
        ("square()", "abs()"),
        ("return -(", "return +("),
        ("query[:, :, None]", "query.flip(0)[:, :, None]"),
    ):
        assert not prototypes_right(function("13", "by_prototypes", change))


def counts_right(accuracy) -> bool:
    logits = torch.tensor([[[1.0, 0], [1, 0], [0, 1]], [[1, 0], [0, 1], [0, 1]]])
    return abs(accuracy(logits) - 4 / 6) < 1e-6 and accuracy(-logits) < 0.34


def test_accuracy_counts_right_answers():
    assert counts_right(N["accuracy"])
    assert not counts_right(function("13", "accuracy", ("argmax", "argmin")))


# ---- episodes ------------------------------------------------------------------------------------


def keeps_apart(episode) -> bool:
    """No image is in support and query; each class stays in its place."""
    classes = [torch.arange(25.0)[:, None] + 100 * c for c in range(3)]
    for seed in range(5):
        support, query = episode(classes, 5, np.random.default_rng(seed))
        if support.shape != (3, 5, 1) or query.shape != (3, 15, 1):
            return False
        if set(support.flatten().tolist()) & set(query.flatten().tolist()):
            return False
        if not torch.equal((query[..., 0] // 100).unique(dim=1), torch.arange(3.0)[:, None]):
            return False
    return True


def test_support_and_query_keep_apart():
    assert keeps_apart(N["episode"])
    for change in (("x[shots:]", "x[:queries]"), ("shots + queries", "shots + queries + 1")):
        assert not keeps_apart(function("13", "episode", change))


def study_keeps_apart(episode) -> bool:
    classes = [torch.arange(25.0)[:, None] + 100 * c for c in range(2)]
    small, large = (episode(classes, shots, 0, 7, 1) for shots in (1, 10))
    inside = set(small[0].flatten().tolist()) <= set(large[0].flatten().tolist())
    shared = set(large[0].flatten().tolist()) & set(large[1].flatten().tolist())
    return inside and not shared and torch.equal(small[1], large[1])


def test_more_shots_keep_the_query():
    assert study_keeps_apart(few_shot.episode)
    wrong = lambda classes, shots, *words: few_shot.episode(classes, shots, *words, shots)
    assert not study_keeps_apart(wrong)


def dealt_right(joint_loss) -> bool:
    """Values that a head names rightly have no loss, in whatever order the labels were dealt."""
    x = torch.zeros(75, 2, few_shot.EACH, few_shot.NUMBERS)
    x[:, 0, :, 0], x[:, 1, :, 1] = 50.0, 50.0
    net = meta_learners.Net()
    net.body = torch.nn.Identity()
    net.heads = torch.eye(few_shot.NUMBERS)[None, :, :2].repeat(75, 1, 1)
    rng = np.random.default_rng(0)
    return joint_loss(net, *few_shot.dealt(x, np.arange(75), 20, 5, rng), 0.0).item() < 1e-6


def test_the_joint_network_keeps_the_values_apart():
    assert dealt_right(meta_learners.joint_loss)
    swapped = lambda net, t, order, *rest: meta_learners.joint_loss(net, t, 1 - order, *rest)
    assert not dealt_right(swapped)


# ---- tasks ---------------------------------------------------------------------------------------


def tasks_apart(sides) -> bool:
    """No question of `far`, and no scanner of `near`, is in training; all are far once."""
    far = []
    for fold in range(len(few_shot.FOLDS)):
        where = sides(fold)
        all_rows = np.concatenate(list(where.values()))
        descriptor = lambda rows: {few_shot.QUESTIONS[few_shot.TASKS[t][0]][0] for t in rows}
        scanner = lambda rows: {few_shot.TASKS[t][1] for t in rows}
        if len(set(all_rows)) != len(all_rows) or scanner(where["near"]) & scanner(where["train"]):
            return False
        if descriptor(where["far"]) & (descriptor(where["train"]) | descriptor(where["near"])):
            return False
        if not descriptor(where["near"]) <= descriptor(where["train"]):
            return False
        far += where["far"].tolist()
    return sorted(far) == list(range(75))


def test_tasks_of_train_and_test_are_disjoint():
    assert len(few_shot.QUESTIONS) == 25 and len(few_shot.TASKS) == 75
    assert tasks_apart(few_shot.sides)
    same = lambda fold: few_shot.sides(fold) | {"near": few_shot.sides(fold)["train"]}
    mixed = lambda fold: few_shot.sides(fold) | {"far": few_shot.sides((fold + 1) % 3)["far"]}
    for wrong in (same, mixed):
        assert not tasks_apart(wrong)


def test_no_two_tasks_share_an_image_and_the_kept_features_are_theirs():
    first, second = few_shot.images(few_shot.SEED, [40]), few_shot.images(few_shot.SEED, [41])
    pictures = [image.numpy().tobytes() for image in torch.cat([first, second])]
    assert len(set(pictures)) == 100
    kept = np.load(KEPT, allow_pickle=False)
    assert {name: kept[name].shape for name in kept.files} == dict.fromkeys(
        few_shot.SOURCES, (75, 2, 25, 64)
    )
    assert KEPT.stat().st_size < 2e6
    alike = np.corrcoef(distances(first[:8]), distances(kept["ultrasound"][40, 0, :8]))[0, 1]
    other = np.corrcoef(distances(first[:8]), distances(kept["ultrasound"][41, 0, :8]))[0, 1]
    assert alike > 0.9 and other < 0.7


def distances(shown) -> np.ndarray:
    """Between all pairs: of features that are kept, or that are made now from images."""
    if isinstance(shown, torch.Tensor):
        shown = few_shot.features_of(few_shot.network("ultrasound"), shown)
        return F.pdist(torch.from_numpy(shown)).numpy()
    return F.pdist(torch.from_numpy(shown.astype(np.float32))).numpy()


# ---- the copy cell -------------------------------------------------------------------------------


def counts_classes_equally(few_shot_of) -> bool:
    """Three classes of 40, 30 and 12: two lie far apart, the third on top of the first."""
    y = np.repeat([0, 1, 2], [40, 30, 12])
    x = torch.eye(3)[torch.tensor([0, 1, 0])[y]] * 10
    x = x + 1e-3 * torch.randn(len(y), 3, generator=torch.Generator().manual_seed(0))
    found = np.mean([few_shot_of(x, y, 5, np.random.default_rng(k)) for k in range(40)])
    return abs(found - 2 / 3) < 0.06  # 1, 1/2 and 1/2; over all images it would be about 0.72


def test_the_copied_cell_knows_three_classes():
    assert counts_classes_equally(function("13", "few_shot", copy=True))
    for change in (("right[y[new] == c].mean()", "right.mean()"), ("argmin", "argmax")):
        assert not counts_classes_equally(function("13", "few_shot", change, copy=True))
