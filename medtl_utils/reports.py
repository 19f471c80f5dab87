"""Results as text: the final report, and one with the headings of the reporting checklists."""

from __future__ import annotations

import textwrap

from .data import Split, Task, check_disjoint
from .ledger import sentence

# heading -> items of TRIPOD+AI (Collins et al., BMJ 385, 2024, e078378)
# and of CLAIM 2024 (Tejani et al., Radiology: AI 6, 2024, e240300)
REPORT_ITEMS = {
    "intended use": ("3b", "41"),
    "data": ("5a", "7"),
    "reference standard": ("8a", "14"),
    "patients": ("20a, 20b", "35, 36"),
    "split": ("12a", "19, 20"),
    "sample size": ("10", "21"),
    "model": ("22", "22, 24"),
    "training": ("12c", "25, 26"),
    "operating point": ("15", "28"),
    "metrics": ("12e", "28, 29"),
    "performance": ("23a", "37, 38"),
    "calibration": ("23a", "37"),
    "subgroups": ("14, 23a", "30"),
    "errors": ("25", "39"),
    "limitations": ("26", "40"),
    "code and data": ("18e, 18f", "43"),
    "test openings": ("12a", "32"),
}


def _intervals(result: dict, split: Split) -> str:
    """What the intervals are: level and unit."""
    unit = "patients"
    if split.patients is None:
        unit = "images" if split.near_copies is None else "images, near-copies together"
        unit += " (patients unknown)"
    level = 100 * getattr(result, "level", 0.95)
    return f"{level:g} % intervals: BCa bootstrap over {unit}"


def _split(split: Split) -> str:
    """What was kept together."""
    if split.patients is not None:
        return "by patient: no patient is in two parts"
    if split.near_copies is not None:
        return "by image, near-copies kept together: the source tells no patients"
    return "by image: the source tells no patients"


def _openings(task: Task) -> str:
    """How often the test set was opened: by this task, and before it by anyone on this machine."""
    reasons = "; ".join(f"{o['opening']}. {o['reason']}" for o in task.openings) or "never"
    here = f"opened {len(task.openings)} time(s) in this run: {reasons}"
    return f"{here}; {sentence(task.openings_before())}"


def report(result: dict[str, tuple[float, float, float]], split: Split, task: Task) -> str:
    """The final report as text: what was tested, each metric with its interval, the openings of the
    test set.

    `result`: of `evaluate`, which also knows the intervals' level.
    """
    lines = [f"Task {task.name!r}, {split}", _intervals(result, split), ""]
    lines += [
        f"  {name.replace('_', ' '):18s} {value:.3f}  ({low:.3f} to {high:.3f})"
        for name, (value, low, high) in result.items()
    ]
    return "\n".join([*lines, "", f"Test set {_openings(task)}"])


def tripod_report(
    task: Task, split: Split, result: dict[str, tuple[float, float, float]], notes: dict[str, str]
) -> str:
    """A report with the headings of REPORT_ITEMS and the item numbers of both checklists, as text
    of 100 columns.

    Code fills in what `task`, `split` and `result` (of `evaluate`) know; `notes` (heading -> text)
    adds the rest; what nobody filled in says NOT REPORTED. The checklists have more items than
    these headings: see their papers. Raises ValueError for an unknown heading and for patients that
    two splits share.
    """
    if unknown := set(notes) - set(REPORT_ITEMS):
        raise ValueError(
            f"Unknown heading(s) {', '.join(sorted(unknown))}. "
            f"Choose from: {', '.join(REPORT_ITEMS)}."
        )
    check_disjoint(task.train, task.val, split)
    performance = (
        f"{k.replace('_', ' ')} {v:.3f} ({low:.3f} to {high:.3f})"
        for k, (v, low, high) in result.items()
    )
    known = {
        "data": task.card,
        "patients": "; ".join(map(str, (task.train, task.val, split))),
        "split": _split(split),
        "metrics": _intervals(result, split),
        "performance": "; ".join(performance),
        "test openings": _openings(task),
    }
    lines = [f"Report on task {task.name!r} (items of TRIPOD+AI | CLAIM 2024)"]
    for heading, (tripod, claim) in REPORT_ITEMS.items():
        texts = [t.replace("\n", " ") for t in (known.get(heading), notes.get(heading)) if t]
        first = f"{heading} [{tripod} | {claim}]: "
        text = " ".join(texts) or "NOT REPORTED"
        lines.append(textwrap.fill(text, 100, initial_indent=first, subsequent_indent="    "))
    return "\n".join(lines)
