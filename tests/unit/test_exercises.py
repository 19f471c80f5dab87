"""Every message of every exercise, from the data; right answers of every type; the table."""

import contextlib
import dataclasses
import importlib
import io
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medtl_utils import exercises
from medtl_utils.exercises import EXERCISES, check, hint
from medtl_utils.exercises.functions import Function, Wrong
from medtl_utils.exercises.kinds import WholeNumber
from medtl_utils.exercises.reading import plain

FUNCTIONS = [name for name, exercise in EXERCISES.items() if isinstance(exercise, Function)]


def said(name, answer) -> str:
    """What `check` prints, on stdout and stderr together."""
    page = io.StringIO()
    with contextlib.redirect_stdout(page), contextlib.redirect_stderr(page):
        check(name, answer)
    return page.getvalue()


# ---- every message, from the data ----


def faults(name, exercise) -> list[str]:
    """Listed answers that do not get their sentence, and messages that no listed answer reaches."""
    listed = list(exercise.wrong_answers())
    found = []
    for answer in exercise.right_answers():
        if said(name, answer) != f"Exercise {name}: correct.\n":
            found.append(f"{answer!r} should pass")
    for answer, message in listed:
        text = said(name, answer)
        if text != f"Exercise {name}: {message}\n" or "correct" in text.lower():
            found.append(f"{answer!r} got {text!r} in place of {message!r}")
    reached = {message for _, message in listed}
    return found + [f"nobody gets {message!r}" for message in messages(exercise) - reached]


def messages(exercise) -> set[str]:
    """All texts in the data of an exercise but its hints, its answer and its words."""
    found = set()
    for field in dataclasses.fields(exercise):
        if field.name in ("wrong", "other", "although_right"):
            value = getattr(exercise, field.name)
            values = value.values() if isinstance(value, dict) else value
            values = [value] if isinstance(value, Wrong) else values
            found |= {v.message if isinstance(v, Wrong) else v for v in values}
    return found


@pytest.mark.parametrize("name", EXERCISES)
def test_every_wrong_answer_gets_its_message(name):
    exercise = EXERCISES[name]
    assert len(messages(exercise)) >= 2
    assert faults(name, exercise) == []


@pytest.mark.parametrize("name", EXERCISES)
def test_the_message_test_bites(name, monkeypatch):
    """Planted: a check that accepts everything, and one that only says no."""
    exercise = EXERCISES[name]
    n_right, n_wrong = len(exercise.right_answers()), len(list(exercise.wrong_answers()))
    assert n_right >= 1 and n_wrong >= 4
    accepts = SimpleNamespace(hint=exercise.hint, problem=lambda answer: None)
    monkeypatch.setitem(EXERCISES, name, accepts)
    assert len(faults(name, exercise)) == n_wrong
    refuses = SimpleNamespace(hint=exercise.hint, problem=lambda answer: "wrong.")
    monkeypatch.setitem(EXERCISES, name, refuses)
    assert len(faults(name, exercise)) == n_right + n_wrong


def with_wrong(name, *more, first=False):
    exercise = EXERCISES[name]
    wrong = exercise.wrong
    if isinstance(wrong, dict):
        wrong = dict(more) | wrong if first else wrong | dict(more)
    else:
        wrong = (*more, *wrong) if first else (*wrong, *more)
    return dataclasses.replace(exercise, wrong=wrong)


def test_the_message_test_bites_on_planted_data(monkeypatch):
    """A wrong answer that is right; one that an earlier one hides; a message that says correct."""
    ppv = EXERCISES["6.1"]
    hidden = Wrong(ppv.wrong[1].function, "the second name of one mistake.")
    cheers = lambda *inputs: 0.1234
    planted = {
        "6.1": [
            with_wrong("6.1", Wrong(ppv.right, "that is right.")),
            with_wrong("6.1", hidden),
            with_wrong("6.1", Wrong(cheers, "this is not correct.")),
            with_wrong("6.1", Wrong(ppv.other.function, "it has a name now."), first=True),
        ],
        "0.3": [with_wrong("0.3", (46, "that is right.")),
                with_wrong("0.3", (0.5, "halves are never looked up."))],
        "3.1": [with_wrong("3.1", (1.61, "that is right.")),
                with_wrong("3.1", (0.7, "hidden by 0.699."))],
    }  # fmt: skip
    for name, broken in planted.items():
        for exercise in broken:
            monkeypatch.setitem(EXERCISES, name, exercise)
            assert faults(name, exercise), exercise.wrong


# ---- right answers in other forms ----


def recast(value, scalar, array):
    """The result of a right function in another type."""
    if isinstance(value, tuple):
        return [recast(part, scalar, array) for part in value]
    value = plain(value)
    return value if isinstance(value, str) else (array if value.shape else scalar)(value)


FORMS = {
    "float32": (np.float32, lambda a: a.astype(np.float32)),
    "float64": (np.float64, np.float64),
    "Python": (float, np.asfortranarray),
    "0-d": (np.array, np.array),
    "tensor": (torch.tensor, torch.tensor),
    "float32 tensor": (lambda a: torch.tensor(a).float(), lambda a: torch.tensor(a).float()),
    "one entry": (lambda a: np.array([a]), lambda a: a),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("2.2", "5.1")])
def test_the_type_of_a_number_does_not_matter(name, form):
    right = EXERCISES[name].right
    assert EXERCISES[name].problem(lambda *i: recast(right(*i), *FORMS[form])) is None
    nearly = lambda a: np.array(a, dtype=float) * 1.001 + 0.001
    if name != "1.3":
        wrong = lambda *i: recast(right(*i), nearly, nearly)
        assert EXERCISES[name].problem(wrong) is not None


def test_a_geometric_mean_in_floats_is_a_whole_number():
    value = np.exp(np.log([100, 400]).mean())
    exercise = WholeNumber(hint="a number.", right=200, wrong={})
    assert value != 200 and exercise.problem(value) is None
    assert exercise.problem(200.001) is not None


def set_to_one(*inputs):
    for thing in inputs:
        if isinstance(thing, (np.ndarray, torch.Tensor)):
            thing[...] = 1


def has_fresh_inputs(exercise) -> bool:
    """An answer that changes what it gets changes neither the next case nor the next answer's."""
    inputs = [thing for _ in range(2) for case in exercise.cases() for thing in case]
    arrays = [np.asarray(x) for x in inputs if isinstance(x, (np.ndarray, torch.Tensor))]
    pairs = itertools.combinations(arrays, 2)
    exercise.problem(set_to_one)
    right = exercise.problem(exercise.right) is None
    return right and not any(np.shares_memory(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_case_has_its_own_fresh_inputs(name):
    assert has_fresh_inputs(EXERCISES[name])


@pytest.mark.parametrize("name", ["1.2", "2.3", "3.2", "3.3", "4.3", "4.4", "6.2", "7.1", "7.2"])
def test_the_fresh_input_test_bites(name):
    """Planted: inputs that are made once."""
    once = EXERCISES[name].cases()
    assert not has_fresh_inputs(dataclasses.replace(EXERCISES[name], cases=lambda: once))


def leaves_random_numbers_alone(exercise) -> bool:
    before = torch.get_rng_state()
    exercise.problem(exercise.right)
    return torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_check_leaves_the_random_numbers_alone(name):
    """Planted: inputs made with a seed for everybody."""
    exercise = EXERCISES[name]
    seeded = dataclasses.replace(
        exercise, cases=lambda: (torch.manual_seed(5), exercise.cases())[1]
    )
    torch.manual_seed(6)
    assert leaves_random_numbers_alone(exercise) and not leaves_random_numbers_alone(seeded)


# ---- the table of exercises ----


def test_a_chapters_file_holds_its_own_exercises(monkeypatch):
    for file in Path(exercises.__file__).parent.glob("chapter_*.py"):
        number = file.stem.removeprefix("chapter_").removeprefix("0") or "0"
        names = importlib.import_module(f"medtl_utils.exercises.{file.stem}").EXERCISES
        assert {name.split(".")[0] for name in names} == {number}, file.name
    monkeypatch.setattr(exercises, "import_module", lambda name: exercises)
    with pytest.raises(ValueError, match="chapter_01.py repeats"):
        exercises._collected()


def test_unknown_exercise():
    for ask in (hint, lambda name: check(name, 1)):
        with pytest.raises(ValueError, match="There are: 0.1"):
            ask("99")


def test_hints_come_one_by_one(monkeypatch, capsys):
    more = dataclasses.replace(EXERCISES["3.1"], hints=("use np.log.",))
    monkeypatch.setitem(EXERCISES, "3.1", more)
    monkeypatch.setattr(exercises, "_hints_given", {})
    for _ in range(3):
        hint("3.1")
    first = f"Exercise 3.1, hint 1 of 2: {more.hint}"
    second = "Exercise 3.1, hint 2 of 2: use np.log."
    assert capsys.readouterr().out.splitlines() == [first, second, second]
