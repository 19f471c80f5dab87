"""What if scratch had had the better recipe? A search on real labels, which transfer does not get.

    python -m studies.scratch_search --share 1/2 & python -m studies.scratch_search --share 2/2
    python -m studies.scratch_search

On repetition 0 of `studies.evidence`, with its folds and its first draws: the ways of
`evidence_plan.ways_of_scratch` for each number of labelled images. The best is taken by the AUC of
the tested images themselves: that favours scratch, on purpose. `studies.scratch_best` trains it in
all repetitions. The way of the plan costs nothing here: its cells are those of the evidence.
"""

from __future__ import annotations

import numpy as np

from medtl_utils.paths import data_folder
from studies import evidence
from studies.evidence import folds_of
from studies.evidence_data import FOLDS
from studies.evidence_plan import DRAWS, ways_of_scratch
from studies.evidence_stats import auc_without
from studies.runner import Study, kept, main

SEARCHED = {25: 2, 50: 2, 100: 2, 200: 1, None: 1}  # labelled images -> draws, the first ones


def cells() -> list[dict]:
    return [
        {"data": "busi", "arm": "scratch", "n": n, "repetition": 0, "fold": k}
        | {"draws": SEARCHED[n], "recipe": recipe}
        for n in DRAWS
        for name, recipe in ways_of_scratch(n).items()
        if name != "as planned"
        for k in FOLDS
    ]


def auc_of(results: list[tuple[dict, dict]], n: int | None) -> float:
    """Mean AUC of repetition 0 over folds and the first draws."""
    few = lambda arrays: arrays["scores"][: SEARCHED[n]]
    folds = folds_of(results, scores_of=few)["scratch", n][0]
    return float(np.mean([auc_without(f, d)[0] for f in folds for d in range(len(f.scores))]))


def table(results: list[tuple[dict, dict]]) -> dict:
    """For each number of labelled images every way's AUC; `best` marks one."""
    planned = kept(evidence.STUDY)
    rows = []
    for n in DRAWS:
        found = []
        for name, recipe in ways_of_scratch(n).items():
            mine = [(c, a) for c, a in [*planned, *results] if c["recipe"] == recipe]
            found.append({"n": n, "way": name, "auc": auc_of(mine, n)})
        best = max(found, key=lambda row: row["auc"])
        rows += [row | {"best": row is best} for row in found]
    return {"ways": rows}


STUDY = Study(
    name="scratch_search",
    cells=cells(),
    run=evidence.run,
    table=table,
    recipe="studies/evidence_plan.py",
    seeds=[0],
    about={"images": "busi, 780, 64 px", "n": "labelled images; None: all of four folds"},
    code=evidence.STUDY.code,
    weights=None,
    archive=data_folder() / "results" / "scratch_search_cells.npz",
)

if __name__ == "__main__":
    main(STUDY)
