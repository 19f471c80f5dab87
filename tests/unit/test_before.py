"""Before a training: copies, patients with two names, marks."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medtl_utils import before as before_module
from medtl_utils import before_training, load_task
from medtl_utils import duplicates as duplicates_module
from medtl_utils import marks as marks_module
from medtl_utils.before import spelling
from medtl_utils.data import Task
from medtl_utils.duplicates import find_duplicates
from medtl_utils.marks import mark_tests


@pytest.fixture(scope="module")
def people():
    """Real images, one of each group of near-copies; two of them make one invented patient."""
    task = load_task("busi")
    firsts = [part[np.unique(part.groups, return_index=True)[1]] for part in (task.train, task.val)]
    made = [
        dataclasses.replace(
            part,
            patients=np.array([f"{part.name}{i // 2}" for i in range(len(part))], dtype="U40"),
            near_copies=None,
        )
        for part in (firsts[0][:260], firsts[1][:40], firsts[1][40:80])
    ]
    return Task("mine", *made[:2], "", dataclasses.replace(made[2], name="test"))


# ---- copies --------------------------------------------------------------------------------------


def cut(image, side, x, y):
    part = image[..., y : y + side, x : x + side].float()[None]
    size = image.shape[-1]
    return F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]


COPIES = {
    "the same view": lambda image: image,
    "flipped left and right": lambda image: image.flip(-1),
    "flipped top and bottom": lambda image: image.flip(-2),
    "turned by 180°": lambda image: image.flip(-1, -2),
    "turned by 90°": lambda image: torch.rot90(image, -1, (-2, -1)),
    "the same view, brighter": lambda image: image.float() * 0.7 + 50,
    "the same view, other curve": lambda image: 255 * (image.float() / 255) ** 0.7,
    "the same view, smaller": lambda image: F.interpolate(
        F.interpolate(image[None].float(), (36, 36), mode="bilinear", antialias=True), (64, 64)
    )[0],
    "cut to 80% of the side": lambda image: cut(image, 51, 9, 4),
    "flipped left and right, cut to 90% of the side": lambda image: cut(image.flip(-1), 58, 2, 5),
}


def with_copies(images):
    """`images`, and after them copies of the first ones, one of each kind."""
    made = [change(images[k]) for k, change in enumerate(COPIES.values())]
    return torch.cat([images, torch.stack([m.clamp(0, 255).round().to(torch.uint8) for m in made])])


def found_kinds(images) -> set[str]:
    n = len(images)
    duplicates_module._KEPT.clear()  # an answer from before a mistake was planted
    pairs = {(d.first, d.second): d.how for d in find_duplicates(with_copies(images))}
    assert all(first + n == second for first, second in pairs)  # no picture is like another
    kinds = list(COPIES)
    for (first, _), how in pairs.items():
        turn = kinds[first].split(",")[0].split(" cut")[0]
        assert turn in how or how.startswith("cut"), (kinds[first], how)
    return {kinds[first] for first, _ in pairs}


def test_copies_are_found(people, monkeypatch):
    images = people.train.images[:60]
    assert found_kinds(images) == set(COPIES)
    with monkeypatch.context() as patch:  # planted: no turns
        patch.setattr(duplicates_module, "TURNS", {"": (0, False)})
        missed = {k for k in COPIES if k.startswith(("flipped", "turned"))}
        assert found_kinds(images) == set(COPIES) - missed

    def unmoved(images, larger, boxes):  # planted: pictures are compared as they lie
        small = [
            F.interpolate(x, (32, 32), mode="bilinear", antialias=True) for x in (images, larger)
        ]
        a, b = map(duplicates_module._standardised, small)
        return (a * b).sum(1), torch.ones(len(boxes))

    monkeypatch.setattr(duplicates_module, "_aligned", unmoved)
    assert "cut to 80% of the side" not in found_kinds(images)


def test_where_all_pictures_look_alike(people, monkeypatch):
    """A bright disc in all of them: only what is much nearer than the others is a copy."""
    x = torch.linspace(-1, 1, 64)
    disc = 120 * ((x[:, None] ** 2 + x**2) < 0.8).float()
    alike = (disc + people.train.images[:80].float() * 0.5).to(torch.uint8)
    alike = torch.cat([alike, alike[:1].flip(-1)])
    assert [d[:2] for d in find_duplicates(alike)] == [(0, 80)]
    monkeypatch.setattr(duplicates_module, "NEARER", 100.0)  # the planted mistake
    duplicates_module._KEPT.clear()
    assert len(find_duplicates(alike)) > 50


def test_odd_pictures_have_no_copies(people):
    flat = torch.full((4, 3, 64, 64), 7, dtype=torch.uint8)
    assert find_duplicates(flat) == find_duplicates(flat[:1]) == []
    small = F.interpolate(people.train.images[:9].float(), (16, 16)).to(torch.uint8)
    assert [d[:2] for d in find_duplicates(torch.cat([small, small[:1]]))] == [(0, 9)]
    with pytest.raises(ValueError, match="5,001 images are too many"):
        find_duplicates(torch.zeros(5001, 1, 2, 2, dtype=torch.uint8))


def does_not_depend_on_the_order(find, images) -> bool:
    """Whether groups of copies are the same however the images are ordered; several are equal."""
    many = torch.cat([with_copies(images), images[:2].repeat(5, 1, 1, 1), images[:1].flip(-1)])
    turned = np.random.default_rng(0).permutation(len(many))
    sets = []
    for order in (np.arange(len(many)), turned):
        groups = find(many[order])
        sets.append({tuple(sorted(order[groups == g].tolist())) for g in groups})
    return sets[0] == sets[1] and max(map(len, sets[0])) == 8


def test_groups_of_copies_do_not_depend_on_the_order(people):
    images = people.train.images[:40]
    assert does_not_depend_on_the_order(duplicates_module.copy_groups, images)

    def first_three(images):  # planted: of many equal pictures each is a pair with three others
        group = np.arange(len(images))
        for a, b, *_ in duplicates_module._among_different(images, 0.97):
            group[group == max(group[a], group[b])] = min(group[a], group[b])
        return group

    assert not does_not_depend_on_the_order(first_three, images)


# ---- patients ------------------------------------------------------------------------------------


def renamed(split, **names):
    people = np.array([names.get(name, name) for name in split.patients], dtype="U40")
    return dataclasses.replace(split, patients=people)


def test_the_same_patient_under_two_names(people):
    first, other = people.train.patients[0], people.val.patients[0]
    val = people.val
    images = val.images.clone()
    images[0] = people.train.images[3].flip(-1)
    val = dataclasses.replace(val, images=images)
    val = renamed(val, **{other: f" {first.upper()}."})
    task = Task("mine", people.train[:90], val)
    found = before_training(task)
    assert [d[:2] for d in found.two_names] == [d[:2] for d in found.across]
    assert found.two_names[0][:2] == (3, 90)
    assert found.alike == [tuple(sorted((f" {first.upper()}.", first)))]
    assert "train row 3 (" in found.text and "flipped left and right" in found.text
    assert "1 pair(s) of names differ in their spelling alone" in found.text
    hidden = before_training(task, names=False)
    assert first.upper() not in hidden.text and str(val.ids[0]) not in hidden.text
    assert len(hidden.figures) >= 1 and "base64" in hidden._repr_html_()


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("P-007", "p7", True),
        ("Müller A.", "müller_a", True),
        ("P10", "P1", False),
        ("100", "10", False),
        ("A1", "B1", False),
        ("1-1", "11", True),
        ("恶性 1", "恶性1", True),
        ("x00", "x0", True),
    ],
)
def test_spelling(one, other, same):
    assert (spelling(one) == spelling(other)) is same


# ---- the test set stays closed -------------------------------------------------------------------


def told(task, test):
    found = before_training(Task("one", task.train, task.val, "", test))
    return found.text.split("\n", 1)[1], found.figures  # the first line has the counts of classes


def test_labels_of_the_test_set_are_not_looked_at(people, monkeypatch):
    people = Task("few", people.train[:90], people.val, "", people._test)
    test = people._test
    copied = dataclasses.replace(test, images=torch.cat([test.images[:-1], test.images[:1]]))
    changed = dataclasses.replace(copied, labels=1 - copied.labels)
    assert told(people, copied) == told(people, changed) and not people.openings
    joined = before_module._joined  # planted: marks are looked for in the test images, too
    with monkeypatch.context() as patch:
        patch.setattr(before_module, "_joined", lambda a, b: joined(joined(a, b), copied))
        first = told(people, copied)
        patch.setattr(before_module, "_joined", lambda a, b: joined(joined(a, b), changed))
        assert told(people, changed) != first


# ---- marks ---------------------------------------------------------------------------------------


def random_labels(split, seed):
    people, unit = np.unique(split.patients, return_inverse=True)
    return np.random.default_rng(seed).permutation(np.arange(len(people)) % 2)[unit]


def marked(split, labels, kind):
    """A mark in each image of class 1: letters in one place, callipers anywhere, a dark frame."""
    images, rng = split.images.clone(), np.random.default_rng(0)
    for row in np.flatnonzero(labels == 1):
        if kind == "letters":
            images[row, :, 3:6, 4:9] = 255
        elif kind == "callipers":
            x, y = rng.integers(6, 58, 2)
            images[row, :, y - 2 : y + 3, x] = images[row, :, y, x - 2 : x + 3] = 255
        elif kind == "frame":
            images[row, :, :, :2] = 0
    return images


KINDS = {
    "letters": "the place of sharp bright spots",
    "callipers": "the number of sharp bright spots",
    "frame": "the frame of the picture",
}


@pytest.mark.parametrize("kind", KINDS)
def test_marks_of_one_class_are_found(people, kind):
    labels = random_labels(people.train, 5)
    tests, rates = mark_tests(marked(people.train, labels, kind), labels, people.train.patients)
    assert next(test for test in tests if test.what == KINDS[kind]).p < 0.05
    assert rates.shape == (2, 64, 64)
    both = marked(people.train, np.ones(len(labels), int), kind)  # the valid twin
    assert min(test.p for test in mark_tests(both, labels, people.train.patients)[0]) > 0.05


def false_alarms(split, groups, repeats) -> float:
    """How often any test finds a mark when labels mean nothing."""
    hits = [
        min(t.p for t in mark_tests(split.images, random_labels(split, s), groups, seed=s)[0])
        < 0.05
        for s in range(repeats)
    ]
    return float(np.mean(hits))


def test_few_false_alarms(people, monkeypatch):
    monkeypatch.setattr(marks_module, "PERMUTATIONS", 99)
    assert false_alarms(people.train, people.train.patients, 20) <= 0.2  # 0.05 is expected
    views = people.train[np.repeat(np.arange(20), 12)]  # 12 copies a patient, taken for 12 people
    assert false_alarms(views, np.arange(len(views)), 10) > 0.5  # the planted mistake


def test_colours_tell_a_class(people):
    labels = random_labels(people.train, 5)
    images = people.train.images.expand(-1, 3, -1, -1).clone()
    images[labels == 1, 0, 10:13, 10:13] = 255
    images[labels == 1, 1:, 10:13, 10:13] = 0
    assert mark_tests(images, labels, people.train.patients)[0][-1].p < 0.05


def test_three_classes_and_colour():
    task = load_task("retinamnist", 32, n_train=60)
    found = before_training(Task("mine", task.train, task.val))
    assert [line[0] for line in found.text.splitlines() if line[:1].isdigit()] == list("1234")
    assert "patients unknown" in found.text and len(found.marks) == 4
