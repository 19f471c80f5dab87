"""The kind of answer that is a function: data as the other kinds are, with functions in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from .kinds import Exercise
from .reading import alike, described, plain, run, same


@dataclass(frozen=True)
class Attempt:
    """One call of the learner's function: its inputs afterwards, and what came back."""

    case: int  # its number, from 0
    inputs: tuple
    result: object  # as it came back
    got: object  # what is compared, as `plain` makes it
    want: object  # the same from the right function


@dataclass(frozen=True)
class Wrong:
    """A function that makes a mistake, and the message that names the mistake.

    An answer makes the same mistake if it gives the same numbers, or if `when(attempt)` says so.
    """

    function: Callable
    message: str
    when: Callable[[Attempt], bool] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Function(Exercise):
    """A function, compared with the right one on all cases, and then with the wrong ones.

    The first case in which the answer differs from the right function decides on the message.
    """

    right: Callable
    cases: Callable[[], list[tuple]]  # makes fresh inputs each time: an answer may change them
    wrong: tuple[Wrong, ...]
    other: Wrong  # an example of a mistake that has no name, and the message for all such
    form: str = ""  # "return ...": what the result should be; said when its form is another
    although_right: tuple[Wrong, ...] = ()  # mistakes that the numbers do not show
    observe: Callable = field(default=lambda result, *inputs: plain(result))  # what is compared

    def problem(self, answer) -> str | None:
        if not callable(answer):
            return self._no_function()
        attempts = []
        for case, inputs in enumerate(self.cases()):
            result, got, trouble = self._observed(answer, inputs)
            if trouble:
                return trouble
            attempts.append(Attempt(case, inputs, result, got, _wanted(self, case)))
        for attempt in attempts:
            if not same(attempt.got, attempt.want):
                return self._named(attempt, words={a.want for a in attempts if _is_text(a.want)})
        named = (w.message for w in self.although_right if any(map(w.when, attempts)))
        return next(named, None)

    def _observed(self, function, inputs: tuple) -> tuple[object, object, str | None]:
        """(result, what of it is compared, what went wrong)."""
        result, trouble = run(function, inputs)
        got, trouble = (None, trouble) if trouble else run(self.observe, (result, *inputs))
        return result, got, trouble

    def _named(self, attempt: Attempt, words: set[str]) -> str:
        """The message for an attempt that is not right. `words`: the texts that may come back."""
        well_formed = alike(attempt.got, attempt.want)
        if well_formed and words:
            well_formed = attempt.got in words
        for wrong in self.wrong:
            if wrong.when:
                made = well_formed and wrong.when(attempt)
            else:
                _, theirs, _ = self._observed(wrong.function, self.cases()[attempt.case])
                made = same(attempt.got, theirs)
            if made:
                return wrong.message
        return self.other.message if well_formed else self._bad_form(attempt.result)

    def _bad_form(self, result) -> str:
        return f"{self.form}; yours is {described(result)}."

    def _no_function(self) -> str:
        parameters = inspect.signature(self.right).parameters.values()
        names = ", ".join(p.name for p in parameters if p.default is p.empty)
        return f"answer should be a function: def answer({names}): ..."

    def right_answers(self):
        return [self.right]

    def wrong_answers(self):
        for wrong in (*self.wrong, *self.although_right, self.other):
            yield wrong.function, wrong.message
        if self.form:
            yield (lambda *inputs: object()), self._bad_form(object())
        yield 0.5, self._no_function()
        yield _stops, "your function stopped with SystemExit: early"


@cache
def _wanted(exercise: Function, case: int):
    _, want, trouble = exercise._observed(exercise.right, exercise.cases()[case])
    assert trouble is None, trouble
    return want


def _is_text(value) -> bool:
    return isinstance(value, str)


def _stops(*inputs):
    raise SystemExit("early")
