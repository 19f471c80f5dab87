"""The kinds of answer; functions have their own file, `functions`.

An exercise is data: the right answer, and wrong ones each with its message.

Every kind has `problem(answer)`, which returns None for a right answer and else one sentence, and
lists answers for the tests: `right_answers()`, and `wrong_answers()` with the exact sentence each
one must get. So no message can stand here that no listed answer reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .reading import described, is_bool, number

TRUE_IS_NO_NUMBER = "True and False do not count as 1 and 0."


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """What every exercise has: a `hint` for the empty answer, further `hints` on request."""

    hint: str
    hints: tuple[str, ...] = ()

    def problem(self, answer) -> str | None:
        """None if `answer` is right, else a sentence that names the mistake."""
        raise NotImplementedError

    def right_answers(self) -> list:
        """Answers that must pass."""
        raise NotImplementedError

    def wrong_answers(self) -> Iterator[tuple[object, str]]:
        """(wrong answer, the sentence that it must get), one or more for every message."""
        raise NotImplementedError

    def not_yet(self) -> str:
        return f"not yet. Hint: {self.hint}"


@dataclass(frozen=True, kw_only=True)
class WholeNumber(Exercise):
    """A whole number; 200.0 and 199.9999999 count as 200. `wrong`: number -> message."""

    right: int
    wrong: dict[int, str]

    def problem(self, answer) -> str | None:
        value = number(answer)
        if value is None:
            return f"{_no_number('a whole number', answer)} Hint: {self.hint}"
        if not math.isfinite(value) or abs(value - round(value)) > 1e-6:
            return self.not_yet()
        return None if round(value) == self.right else self.wrong.get(round(value), self.not_yet())

    def right_answers(self):
        return [self.right, self.right + 1e-9, *_scalars(self.right, np.int64)]

    def wrong_answers(self):
        yield from self.wrong.items()
        yield 987_654_321, self.not_yet()
        yield self.right + 0.5, self.not_yet()
        yield "7", f"a whole number is asked for; yours is of type str. Hint: {self.hint}"
        yield True, f"a whole number is asked for; {TRUE_IS_NO_NUMBER} Hint: {self.hint}"


@dataclass(frozen=True, kw_only=True)
class Number(Exercise):
    """A number to two decimals (`tolerance`). `wrong`: number -> message."""

    right: float
    wrong: dict[float, str]
    tolerance: float = 0.006

    def problem(self, answer) -> str | None:
        value = number(answer)
        if value is None:
            return _no_number("one number", answer)
        close = lambda other: abs(value - other) < self.tolerance
        if close(self.right):
            return None
        named = (message for other, message in self.wrong.items() if close(other))
        return next(named, "another number is expected.")

    def right_answers(self):
        return [self.right + 0.8 * self.tolerance, *_scalars(self.right, np.float32)]

    def wrong_answers(self):
        yield from self.wrong.items()
        yield self.right + 1000, "another number is expected."
        yield str(self.right), "one number is asked for; yours is of type str."
        yield [self.right], "one number is asked for; yours is of type list."
        yield True, f"one number is asked for; {TRUE_IS_NO_NUMBER}"


def _no_number(asked: str, answer) -> str:
    said = TRUE_IS_NO_NUMBER if is_bool(answer) else f"yours is {described(answer)}."
    return f"{asked} is asked for; {said}"


def _scalars(value, dtype) -> list:
    return [float(value), dtype(value), np.array(value), torch.tensor(value)]


@dataclass(frozen=True, kw_only=True)
class Letters(Exercise):
    """A set of letters. `wrong`: every letter -> the message if it is missing or too much."""

    right: str
    wrong: dict[str, str]

    def problem(self, answer) -> str | None:
        parts = list(answer) if isinstance(answer, (str, list, tuple, set, frozenset)) else [None]
        readable = all(isinstance(part, str) for part in parts)
        said = {c for c in "".join(parts).lower() if c.isalpha()} if readable else set()
        if not said or not said <= set(self.wrong):
            return self.form()
        return next((m for c, m in self.wrong.items() if (c in said) != (c in self.right)), None)

    def form(self) -> str:
        return f'letters from "a" to "{max(self.wrong)}" are asked for, such as "ab".'

    def right_answers(self):
        forms = self.right.upper()[::-1], ", ".join(self.right), list(self.right), set(self.right)
        return [self.right, *forms]

    def wrong_answers(self):
        for letter, message in self.wrong.items():
            yield "".join(sorted(set(self.right) ^ {letter})), message
        yield from ((odd, self.form()) for odd in ("", "xyz", 3, ["a", None]))


@dataclass(frozen=True, kw_only=True)
class WordList(Exercise):
    """A list of words out of `words`. `wrong`: for each place, the message if its word is wrong."""

    words: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]

    def problem(self, answer) -> str | None:
        if not isinstance(answer, (list, tuple)) or len(answer) != len(self.right):
            return self.form()
        said = [word.strip().lower() if isinstance(word, str) else None for word in answer]
        places = zip(said, self.right, self.wrong)
        return next((message for word, right, message in places if word != right), None)

    def form(self) -> str:
        example = ", ".join(f'"{self.words[0]}"' for _ in self.right)
        return f"a list of {len(self.right)} words is asked for, such as [{example}]."

    def right_answers(self):
        return [self.right, list(self.right), [word.upper() for word in self.right]]

    def wrong_answers(self):
        for place, message in enumerate(self.wrong):
            for word in (*self.words, "another", None, 3):
                if word != self.right[place]:
                    yield [*self.right[:place], word, *self.right[place + 1 :]], message
        yield from ((odd, self.form()) for odd in (self.words[0], self.right[:2], 3))
