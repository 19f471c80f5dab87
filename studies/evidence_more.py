"""Beside the primary claim: other ways, sources and images. All of it is descriptive.

    python -m studies.evidence_more --share 1/2 & python -m studies.evidence_more --share 2/2
    python -m studies.evidence_more

On busi, with the folds, draws and recipes of `studies.evidence`: a linear probe on each source; the
peer, real ImageNet weights at 64 pixels and at its own 224; the hybrid, the mean of the scores of
ultrasound and ImageNet; each network averaged with its answer to the mirror image; three networks
averaged, from scratch and from ultrasound. On other images: BreastMNIST, the same tumours at 28
pixels, and fundus photographs, where neither source is at home.
Needs the cells of `studies.evidence`, and busi at 224 pixels (see `studies.busi_archive`).
"""

from __future__ import annotations

import itertools

from medtl_utils.paths import data_folder
from studies import evidence
from studies.evidence import averaged, folds_of, gains, levels
from studies.evidence_data import FOLDS
from studies.evidence_plan import (
    AVERAGED,
    DRAWS,
    MEMBERS,
    PRIMARY,
    REPETITIONS,
    digest_of,
    recipe_of,
)
from studies.runner import Study, kept, main

# arm -> numbers of labelled images (None: all)
ON_BUSI = {
    "ultrasound, probe": tuple(DRAWS),
    "shapes, probe": tuple(DRAWS),
    "ImageNet, 224, probe": tuple(DRAWS),
    "ImageNet": (None, 100),
    "ImageNet, 224": (None, 100),
}
HYBRIDS = {  # name -> the arms whose scores are averaged
    "ultrasound + ImageNet, 224": ("ultrasound", "ImageNet, 224"),
    "ultrasound + ImageNet, 224, probe": ("ultrasound", "ImageNet, 224, probe"),
}
BOTH_SIDES = ("scratch", "ultrasound")
ELSEWHERE = {"breastmnist": (None, 100), "retinamnist": (None, 100)}


def cells() -> list[dict]:
    found = [
        ("busi", arm, n, r, k)
        for r, arm, k in itertools.product(REPETITIONS, ON_BUSI, FOLDS)
        for n in ON_BUSI[arm]
    ]
    found += [
        (data, arm, n, r, k)
        for data, r, arm, k in itertools.product(ELSEWHERE, REPETITIONS, PRIMARY, FOLDS)
        for n in ELSEWHERE[data]
    ]
    single = [
        {"data": data, "arm": arm, "n": n, "repetition": r, "fold": k}
        | {"draws": DRAWS[n], "recipe": recipe_of(arm, n)}
        for data, arm, n, r, k in found
    ]
    order = itertools.product(AVERAGED[::-1], REPETITIONS, BOTH_SIDES, MEMBERS[1:], FOLDS)
    return single + [
        {"data": "busi", "arm": arm, "n": n, "repetition": r, "fold": k}
        | {"draws": 1, "recipe": recipe_of(arm, n), "member": member}
        for n, r, arm, member, k in order
    ]


def averages(results: list[tuple[dict, dict]]) -> dict:
    """(arm, n) -> folds of the mean of three networks, each trained on the first draw."""
    first = lambda arrays: arrays["scores"][:1]
    parts = [folds_of(results, scores_of=first, member=member) for member in MEMBERS]
    both = [key for key in parts[-1] if key[0] in BOTH_SIDES]
    return {key: averaged(*(part[key] for part in parts)) for key in both}


def with_mirrors(arrays: dict):
    return (arrays["scores"] + arrays["mirrored"]) / 2


def table(results: list[tuple[dict, dict]]) -> dict:
    """For each kind of images the levels of all arms and their gains over scratch and control."""
    together = [*kept(evidence.STUDY), *results]
    found = folds_of(together)
    for name, arms in HYBRIDS.items():
        for n in DRAWS:
            if all((arm, n) in found for arm in arms):
                found[name, n] = averaged(*(found[arm, n] for arm in arms))
    parts = {
        "busi": found,
        "busi, with mirror images": folds_of(together, scores_of=with_mirrors),
        "busi, three networks": averages(together),
        **{data: folds_of(results, data=data) for data in ELSEWHERE},
    }
    rows: dict = {"levels": [], "gains": []}
    for name, part in parts.items():
        rows["levels"] += [{"data": name} | row for row in levels(part)]
        for against in sorted({"scratch", "shapes"} & {arm for arm, _ in part}):
            rows["gains"] += [{"data": name} | row for row in gains(part, against)]
    return rows


STUDY = Study(
    name="evidence_more",
    cells=cells(),
    run=evidence.run,
    table=table,
    recipe="studies/evidence_plan.py",
    seeds=REPETITIONS,
    about={"n": "labelled images; None: all of four folds"},
    code=evidence.STUDY.code,
    weights=lambda cell: digest_of(cell["arm"], cell["repetition"]),
    archive=data_folder() / "results" / "evidence_more_cells.npz",
)

if __name__ == "__main__":
    main(STUDY)
