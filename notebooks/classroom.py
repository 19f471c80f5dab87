"""What a class needs of one machine, and whether it is there.

python notebooks/classroom.py --seats 30        (or: make classroom SEATS=30)
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys

import nbformat
from execute import ROOT, notebooks, read_header, short_name

LAB = 0.1  # GB of memory of one JupyterLab without a notebook, measured
SYSTEM = 2.0  # GB of memory left to the system
SEAT = 0.2  # GB of disk a seat: a copy of the notebooks, a saved model, outputs


def headers() -> dict[str, tuple[int, float]]:
    """Notebook -> (seconds with one thread, GB of memory), as the headers say."""
    found = {short_name(p): read_header(nbformat.read(p, 4)) for p in notebooks()}
    return {name: header for name, header in found.items() if header}


def memory_here() -> float:
    """GB of memory of this machine; nan where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (AttributeError, ValueError, OSError):
        return float("nan")


def needs(
    seats: int, cores: int, memory: float, disk: float, heads: dict[str, tuple[int, float]]
) -> tuple[list[str], list[str]]:
    """(what to print, what is missing) for `seats` people who all run the largest notebook.

    `memory`, `disk`: GB that the machine has, and that are free; nan: not known.
    """
    largest = max(heads, key=lambda name: heads[name][1])
    longest = max(heads, key=lambda name: heads[name][0])
    a_seat = heads[largest][1] + LAB
    memory_all, disk_all = seats * a_seat + SYSTEM, seats * SEAT
    seconds = heads[longest][0]
    together = seconds * max(1.0, seats / cores)
    said = [
        f"{seats} seats, {cores} cores",
        f"memory  {memory_all:.0f} GB: {a_seat:.1f} a seat in notebook {largest}, and {SYSTEM:.0f} "
        f"for the system; here {memory:.0f}",
        f"disk    {disk_all:.1f} GB: {SEAT} a seat, beside one environment; free {disk:.0f}",
        f"time    notebook {longest}: {seconds} seconds alone, about {together:.0f} if all "
        f"{seats} run it at once, one thread each",
    ]
    missing = []
    if memory_all > memory:
        enough = max(0, int((memory - SYSTEM) / a_seat))
        missing.append(f"memory for {enough} seats only: share seats, or add machines")
    if disk_all > disk:
        missing.append(f"disk for {int(disk / SEAT)} seats only")
    return said, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seats", type=int, default=30, help="people at one time (%(default)s)")
    seats = parser.parse_args().seats
    if seats < 1:
        parser.error("--seats is 1 or more")
    free = shutil.disk_usage(ROOT).free / 1e9
    said, missing = needs(seats, os.cpu_count() or 1, memory_here(), free, headers())
    print("\n".join(said))
    if missing:
        sys.exit("\n".join(f"Not enough: {what}." for what in missing))
    print("Enough.")


if __name__ == "__main__":
    main()
