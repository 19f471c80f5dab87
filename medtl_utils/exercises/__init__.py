"""The exercises: `check` an answer, ask for a `hint`.

The exercises of chapter NN stand in `chapter_NN.py`, in a dictionary EXERCISES (name -> exercise).
A new file of that name is all that a new chapter needs. The kinds of exercise are in `kinds` and
`functions`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from .kinds import Exercise
from .reading import one_line


def _collected() -> dict[str, Exercise]:
    found: dict[str, Exercise] = {}
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    for name in sorted(n for n in names if n.startswith("chapter_")):
        chapter = import_module(f"{__name__}.{name}").EXERCISES
        if twice := found.keys() & chapter.keys():
            raise ValueError(f"{name}.py repeats the exercise {min(twice)}: give it another name.")
        found |= chapter
    return found


EXERCISES = _collected()
_hints_given: dict[str, int] = {}


def check(name: str, answer) -> None:
    """Print one line: whether `answer` solves exercise `name`, or a hint that names the mistake.

    `...` and None mean "not answered yet". No answer gets a traceback. What a function prints while
    it is tried is not shown. Raises ValueError for a name that is no exercise.
    """
    exercise = _named(name)
    if answer is ... or answer is None:
        print(f'Exercise {name}: not answered yet. hint("{name}") helps.')
        return
    try:
        problem = exercise.problem(answer)
    except Exception as error:  # the answer is odder than any that the tests know
        problem = one_line(f"this answer cannot be read ({type(error).__name__}).")
    print(f"Exercise {name}: {'correct.' if problem is None else problem}")


def hint(name: str) -> None:
    """Print the next hint for exercise `name`; after the last one, the last one again."""
    exercise = _named(name)
    steps = (exercise.hint, *exercise.hints)
    step = min(_hints_given.get(name, 0), len(steps) - 1)
    _hints_given[name] = step + 1
    print(f"Exercise {name}, hint {step + 1} of {len(steps)}: {steps[step]}")


def _named(name: str) -> Exercise:
    if name not in EXERCISES:
        raise ValueError(f"There is no exercise {name!r}. There are: {', '.join(EXERCISES)}.")
    return EXERCISES[name]
