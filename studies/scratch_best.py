"""The primary claim once more, against scratch with the recipe that was best in hindsight.

    python -m studies.scratch_best --share 1/2 & python -m studies.scratch_best --share 2/2
    python -m studies.scratch_best

`studies.scratch_search` names the recipe for each number of labelled images; here it is trained in
all repetitions and draws of `studies.evidence`. Where it is the planned one, there is nothing to
train.
"""

from __future__ import annotations

import json

from medtl_utils.paths import data_folder
from studies import evidence
from studies.evidence import folds_of, gains, levels
from studies.evidence_data import FOLDS
from studies.evidence_plan import DRAWS, REPETITIONS, ways_of_scratch
from studies.evidence_stats import holm
from studies.runner import Study, kept, main

SEARCH = data_folder() / "results" / "scratch_search.json"


def best_ways() -> dict[int | None, str]:
    """Labelled images -> the way that was best; empty before the search is done."""
    if not SEARCH.is_file():
        return {}
    return {row["n"]: row["way"] for row in json.loads(SEARCH.read_text())["ways"] if row["best"]}


def cells() -> list[dict]:
    return [
        {"data": "busi", "arm": "scratch", "n": n, "repetition": r, "fold": k}
        | {"draws": DRAWS[n], "recipe": ways_of_scratch(n)[way]}
        for r in REPETITIONS
        for n, way in best_ways().items()
        if way != "as planned"
        for k in FOLDS
    ]


def table(results: list[tuple[dict, dict]]) -> dict:
    """Levels of scratch at its best, and what ultrasound gains over it, with Holm's p."""
    found, best = folds_of(kept(evidence.STUDY)), folds_of(results)
    against = {("scratch", n): best.get(("scratch", n), found["scratch", n]) for n in DRAWS}
    rows = gains(against | {("ultrasound", n): found["ultrasound", n] for n in DRAWS}, "scratch")
    for row, p in zip(rows, holm([row["p"] for row in rows])):
        row["holm"] = float(p)
    ways = [{"n": n, "way": way} for n, way in best_ways().items()]
    return {"ways": ways, "levels": levels(against), "gains": rows}


STUDY = Study(
    name="scratch_best",
    cells=cells(),
    run=evidence.run,
    table=table,
    recipe="studies/evidence_plan.py",
    seeds=REPETITIONS,
    about={"images": "busi, 780, 64 px", "n": "labelled images; None: all of four folds"},
    code=evidence.STUDY.code,
    weights=None,
    archive=data_folder() / "results" / "scratch_best_cells.npz",
)

if __name__ == "__main__":
    if not best_ways():
        raise SystemExit(f"{SEARCH.name} is missing. Run: python -m studies.scratch_search")
    main(STUDY)
