"""What the first of the evidence's three repetitions gives, before the others are made.

    python -m studies.evidence_first

It needs no training: the cells are kept in data/results/evidence_cells.npz. One training of each
source: the intervals cover the images alone, no p-value is told, and nothing is claimed of another
training. The table goes when studies/evidence.py has made its own.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from studies.evidence import STUDY, folds_of, gains, levels
from studies.evidence_plan import digest_of
from studies.runner import kept
from studies.tables import versions, write_table

NUMBERS = (25, 100, 200, None)
CELLS = [c for c in STUDY.cells if c["repetition"] == 0 and c["n"] in NUMBERS]


def table(results: list[tuple[dict, dict]]) -> dict:
    """Levels and gains as in the evidence, of the first repetition."""
    found = {key: folds[:1] for key, folds in folds_of(results).items()}
    rows = [*gains(found, "scratch"), *gains(found, "shapes")]
    updates = {(c["arm"], c["n"]): int(a["updates"]) for c, a in results if c["fold"] == 0}
    return {
        "updates": [{"arm": arm, "n": n, "updates": u} for (arm, n), u in updates.items()],
        "levels": levels(found),
        "gains": [{k: v for k, v in row.items() if k != "p"} for row in rows],
    }


def main() -> None:
    torch.set_num_threads(1)
    about = {
        "command": "python -m studies.evidence_first",
        **STUDY.about,
        "repetitions": 1,
        "interval": "95 %, over groups of images; not over trainings of the source",
        "versions": versions(),
        "source_sha256": [digest_of(arm, 0) for arm in ("ultrasound", "shapes")],
    }
    found = table(kept(replace(STUDY, cells=CELLS)))
    print(f"wrote {write_table('evidence_first', about | found)}")


if __name__ == "__main__":
    main()
