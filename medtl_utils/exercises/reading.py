"""Read what a learner hands in. No value, however odd, may end in a traceback."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import numbers
import warnings
from collections.abc import Callable

import numpy as np
import torch

LARGEST = (
    1_000_000  # entries; no exercise asks for more, and a copy of a huge array could fill memory
)


def one_line(text) -> str:
    """`text` as one printable line of at most 200 characters."""
    try:
        words = " ".join(str(text).split())
    except Exception:
        return ""
    return "".join(c if c.isprintable() else "?" for c in words)[:200]


def described(value) -> str:
    """What a value is, in words that follow "yours is"."""
    if value is None:
        return "None"
    if is_bool(value):
        return "of type bool"
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return f"an array of shape {tuple(value.shape)}"
    if callable(value):
        return "a function"
    return one_line(f"of type {type(value).__name__}")


def is_bool(value) -> bool:
    """True for one truth value: Python's, NumPy's, or a 0-d array or tensor of them."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return value.shape == () and value.dtype in (np.dtype(bool), torch.bool)
    return isinstance(value, (bool, np.bool_))


def number(value) -> float | None:
    """One real number as a float (inf where it is too large for one), else None.

    Python's and NumPy's numbers and arrays or tensors of shape () count; True, complex numbers,
    texts, masked values and arrays of shape (1,) do not.
    """
    try:
        if is_bool(value) or isinstance(value, np.ma.MaskedArray):
            return None
        if isinstance(value, (np.ndarray, torch.Tensor)) and value.shape == ():
            value = value.item()
        return float(value) if isinstance(value, numbers.Real) else None
    except OverflowError:
        return math.inf
    except Exception:
        return None


def run(function: Callable, inputs: tuple) -> tuple[object, str | None]:
    """(result, None), or (None, what went wrong). What the function prints is not shown.

    SystemExit counts as an error of the function; only the interruption by the user passes through.
    """
    silence = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            result = function(*inputs)
            if inspect.iscoroutine(result):
                result.close()  # else Python complains later that it was never awaited
            return result, None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said = one_line(f"{type(error).__name__}: {one_line(error)}").rstrip(": ")
        return None, f"your function stopped with {said}"


def plain(value):
    """A result in a form that can be compared, or None where there is none.

    A text in small letters; a float64 array (numbers are arrays of shape ()), or a bool array; a
    tuple of these. NumPy or torch, float32 or float64 make no difference.
    """
    try:
        if isinstance(value, str):
            return value.strip().lower()
        if isinstance(value, (tuple, list)):
            parts = tuple(map(_array, value)) if len(value) <= 10 else (None,)
            return None if any(part is None for part in parts) else parts
        return _array(value)
    except Exception:
        return None


def _array(value) -> np.ndarray | None:
    if isinstance(value, torch.Tensor):
        if value.numel() > LARGEST or value.is_complex():
            return None
        value = value.detach().cpu()
        value = (value if value.dtype == torch.bool else value.double()).numpy()
    elif isinstance(value, numbers.Real) and not isinstance(value, (bool, np.generic)):
        value = float(value)
    elif not isinstance(value, (bool, np.generic, np.ndarray)) or np.size(value) > LARGEST:
        return None
    elif isinstance(value, np.ma.MaskedArray):
        return None
    array = np.asarray(value)
    if array.dtype.kind in "iuf":
        return array.astype(float)
    return array if array.dtype.kind == "b" else None


def alike(got, want) -> bool:
    """The same form: both texts, tuples of the same length, or arrays of the same shape.

    An array with one entry will do for a number; truth values never do.
    """
    if got is None or type(got) is not type(want):
        return False
    if isinstance(want, tuple):
        return len(got) == len(want) and all(map(alike, got, want))
    if isinstance(want, str):
        return True
    same_shape = got.shape == want.shape or want.shape == () and got.size == 1
    return same_shape and (got.dtype == bool) == (want.dtype == bool)


def same(got, want) -> bool:
    """The same form and numbers, within 1e-5 relative and 1e-6 absolute; nan equals nan."""
    if not alike(got, want):
        return False
    if isinstance(want, tuple):
        return all(map(same, got, want))
    if isinstance(want, str):
        return got == want
    return np.allclose(got.reshape(want.shape), want, rtol=1e-5, atol=1e-6, equal_nan=True)
