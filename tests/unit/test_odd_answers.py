"""Answers of every odd kind to every exercise: one line each, no traceback, never called right."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtl_utils.exercises import EXERCISES
from tests.unit.test_exercises import said


class Evil:
    """An object on which nearly every operation raises."""

    def _raise(self, *_):
        raise RuntimeError("no")

    __eq__ = __float__ = __int__ = __len__ = __iter__ = __bool__ = __str__ = __repr__ = _raise
    __array__ = __index__ = __getattr__ = __contains__ = __lt__ = _raise
    __hash__ = None


class EvilClass:
    @property
    def __class__(self):
        raise RuntimeError("no")


endless = []
endless.append(endless)
STRANGE = "\ud800 \x00\x1b[31m\n\r\u2028 \U0001f600"
VALUES = [
    True, False, np.True_, torch.tensor(True), np.array(False), np.float64(7.7), np.float32(7.7),
    np.int8(7), 10**400, -(10**400), 7.7, float("nan"), float("inf"), -float("inf"),
    complex(1, 2), np.complex64(1j), torch.tensor(1j), np.array([1j]), "", STRANGE, "7.7", b"ab",
    bytearray(b"a"), np.array("yes"), np.array(["a", None], dtype=object), np.array([]),
    np.zeros((7, 7)), np.full((2, 3), np.nan), np.broadcast_to(1.5, (10**6, 10**6)), [], (), {},
    [[]], [None], [None] * 4, [True] * 4, [1, "a", None], ["a", ["b"]], {1: 2}, {"d": "e"},
    {None}, frozenset({7}), set(), range(5), endless, [endless] * 10, iter([1]), object(), object,
    int, dict, Evil, Evil(), EvilClass(), [Evil()] * 4, np.full(1, None), Ellipsis,
    None, NotImplemented, torch.ones(2, 3), torch.ones(2, device="meta"), torch.ones(3).to_sparse(),
    torch.ones(2, requires_grad=True), torch.nn.Linear(2, 2), np.datetime64("2020-01-01"),
    np.zeros(2, dtype=[("a", "f4")]), np.ma.masked, memoryview(b"a"), len, print, np, slice(1),
    ValueError("x"), torch.float32, np.dtype(float), np.random.default_rng(0), (x for x in "abc"),
    torch.tensor(7.7).bfloat16(), np.longdouble(7.7), np.float16(7.7), "a" * 100_000,
]  # fmt: skip


def stop(error):
    def answer(*inputs):
        raise error

    return answer


def prints(*inputs):
    print("line one\nline two")
    return 7.7


def wrecks(*inputs):
    """Changes all that it gets."""
    for thing in inputs:
        if isinstance(thing, np.ndarray):
            thing[...] = 1
        elif isinstance(thing, torch.Tensor):
            thing.fill_(float("nan"))
        elif isinstance(thing, torch.nn.Module):
            thing.to("meta")


def deep(*inputs):
    return deep(*inputs)


def one_by_one(*inputs):
    yield 1


async def later(*inputs):
    return 1


ODD_FUNCTIONS = [
    *(stop(e) for e in (SystemExit(), GeneratorExit(), ValueError(STRANGE), Exception(Evil()),
                        MemoryError(), StopIteration(3), BaseException("correct\nlines"))),
    prints, wrecks, deep, one_by_one, later, lambda: 1, lambda only: only, lambda **named: named,
]  # fmt: skip


def is_one_line(name, answer) -> bool:
    """One printable line that begins with the exercise's name, not through `check`'s last net."""
    text = said(name, answer)
    return (
        text.startswith(f"Exercise {name}: ")
        and text.endswith("\n")
        and text[:-1].isprintable()
        and len(text) < 600
        and ("cannot be read" not in text or type(answer) is EvilClass)
    )


@pytest.mark.parametrize("name", EXERCISES)
def test_odd_answers_get_one_line(name):
    results = VALUES if name != "2.2" else []  # its result does not matter, and each try is slow
    functions = [lambda *inputs, value=value: value for value in results]
    for answer in (*VALUES, *functions, *ODD_FUNCTIONS):
        assert is_one_line(name, answer), (name, type(answer))
        assert not said(name, answer).endswith(": correct.\n"), (name, type(answer))


def test_the_one_line_test_bites(monkeypatch):
    """Planted: checks that compare, convert, print or answer with two lines."""
    old = EXERCISES["0.3"]
    planted = [lambda a: None if a == 0 else "no.", lambda a: str(float(a)), print,
               lambda a: "two\nlines", lambda a: {0: "no."}.get(a), lambda a: f"{a}"]  # fmt: skip
    for problem in planted:
        monkeypatch.setitem(EXERCISES, "0.3", SimpleNamespace(hint=old.hint, problem=problem))
        assert not all(is_one_line("0.3", answer) for answer in VALUES)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(),
    st.binary(), st.sampled_from(["a", "yes", "domain", 10**400, np.float32(1), torch.ones(2)]),
)  # fmt: skip
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.tuples(inner, inner), st.dictionaries(st.text(), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=HealthCheck)
@given(NESTED)
def test_random_answers_get_one_line(value):
    for name in EXERCISES:
        assert is_one_line(name, value), name
        assert name == "2.2" or is_one_line(name, lambda *inputs: value), name


def test_an_exercise_that_breaks_gives_no_traceback(monkeypatch):
    broken = SimpleNamespace(hint="", problem=lambda answer: 1 / 0)
    monkeypatch.setitem(EXERCISES, "0.1", broken)
    assert said("0.1", 1) == "Exercise 0.1: this answer cannot be read (ZeroDivisionError).\n"


def test_the_user_can_interrupt():
    with pytest.raises(KeyboardInterrupt):
        said("1.2", stop(KeyboardInterrupt()))


@pytest.mark.parametrize("name", ["0.3", "2.1", "2.4", "3.1", "4.1"])
def test_true_and_false_are_no_numbers(name):
    for value in (True, False, np.True_, np.False_, torch.tensor(True), np.array(False)):
        assert "do not count as 1 and 0" in said(name, value)
