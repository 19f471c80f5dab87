"""The ledger: every opening of a locked test set, a JSON line each, in a folder of the user."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence

import numpy as np

from .paths import ledger_folder

FILE = "test_openings.jsonl"
_told: set[str] = set()  # keys whose earlier openings this process has printed


def content_key(ids: np.ndarray | None, labels: np.ndarray, images: np.ndarray) -> str:
    """SHA-256 of a test set's content.

    Over the sorted ids where the images have them: the same images at 28 and at 64 pixels, in any
    order, are one test set. Else over shape, labels and pixels.
    """
    digest = hashlib.sha256()
    if ids is not None:
        digest.update("\n".join(sorted(map(str, ids))).encode())
    else:
        digest.update(str(images.shape).encode())
        digest.update(np.ascontiguousarray(labels).tobytes())
        digest.update(np.ascontiguousarray(images).tobytes())
    return digest.hexdigest()


def read(key: str) -> list[dict[str, str]]:
    """The openings of one test set so far, oldest first: dicts of time (ISO, local) and reason.

    A line that is cut off or damaged is passed over; a ledger that cannot be read counts as empty.
    """
    try:
        lines = (ledger_folder() / FILE).read_bytes().split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("key") == key:
            found.append({what: str(entry.get(what, "unknown")) for what in ("time", "reason")})
    return found


def append(key: str, entry: dict) -> None:
    """Add one opening, with the time. Raises OSError where the folder cannot be written.

    It is written in one piece to the end of the file, so that processes can write at once, and
    between two line ends, so that half a line of a killed process cannot spoil it.
    """
    time = datetime.datetime.now().isoformat(timespec="seconds")
    record = b"\n" + json.dumps({"time": time, "key": key, **entry}).encode() + b"\n"
    ledger_folder().mkdir(parents=True, exist_ok=True)
    with open(ledger_folder() / FILE, "ab", buffering=0) as file:
        if file.write(record) != len(record):
            raise OSError(f"{FILE}: the line was cut off; the disk may be full")


def sentence(earlier: Sequence[dict[str, str]]) -> str:
    """ "opened 3 times before, last on 2026-01-31 for: 'final result'", for a list from `read`."""
    if not earlier:
        return "never opened before"
    times = "1 time" if len(earlier) == 1 else f"{len(earlier)} times"
    day = earlier[-1]["time"][:10]
    when = "today" if day == datetime.date.today().isoformat() else f"on {day}"
    return f"opened {times} before, last {when} for: {earlier[-1]['reason']!r}"


def tell_once(key: str, earlier: Sequence[dict[str, str]]) -> None:
    """Print that a test set was opened before, once a test set and process."""
    if earlier and key not in _told:
        _told.add(key)
        print(f"This test set was {sentence(earlier)}.")
