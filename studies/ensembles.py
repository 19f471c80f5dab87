"""What is an ensemble worth, and is it more than longer training? One question, alone.

    python -m studies.ensembles

100 labelled images, the draws and the training of studies/small_data.py, no augmentation. Three
networks, each with 32 updates, differ by their seeds: a new head and other batches. Beside the mean
of the three stands their ensemble, the mean of their probabilities, and one network with as many
updates as the three together, 96. Intervals as in small_data.
"""

from __future__ import annotations

import numpy as np

from medtl_utils import predict
from studies.runner import Study, main
from studies.small_data import (
    BATCH,
    DRAWS,
    NONE,
    RATE,
    SIZE,
    UPDATES,
    aucs,
    by_unit,
    labelled,
    sides,
    trained,
)
from studies.small_data import STUDY as SMALL_DATA
from studies.tables import over_seeds

LABELS, MEMBERS = 100, 3
ONE, TOGETHER, LONGER = "one network", "ensemble", "one network, three times the updates"


def run(data: str, draw: int) -> dict:
    """Probabilities of disease of the held-out images: three networks, then the longer one."""
    pool, test = sides(data, draw)
    train = labelled(pool, LABELS, draw, data)
    how = [(draw + 1000 * k, UPDATES) for k in range(MEMBERS)] + [(draw, MEMBERS * UPDATES)]
    scores = [predict(trained(train, NONE, *one), test)[:, 1].numpy() for one in how]
    return {"scores": np.stack(scores), "labels": test.labels.numpy()}


def table(results: list[tuple[dict, dict]]) -> dict:
    """AUC of each way, and the paired differences."""
    levels, gains, runs = [], [], []
    for data in DRAWS:
        of = [(c["draw"], r) for c, r in results if c["data"] == data]
        each = []
        for draw, found in of:
            members = found["scores"][:MEMBERS]
            scores = np.stack([*members, members.mean(0), found["scores"][-1]])
            *single, together, longer = aucs(scores, found)
            each.append((np.mean(single), together, longer))
            runs.append({"data": data, "draw": draw, "auc": each[-1]})
        unit = dict(zip((ONE, TOGETHER, LONGER), by_unit(data, np.array(each)).T))
        levels += [{"data": data, "what": k} | over_seeds(v) for k, v in unit.items()]
        for a, b in ((TOGETHER, ONE), (LONGER, ONE), (TOGETHER, LONGER)):
            row = {"data": data, "what": a, "against": b}
            gains.append(row | over_seeds(unit[a] - unit[b]))
    return {"levels": levels, "gains": gains, "runs": runs}


STUDY = Study(
    name="ensembles",
    cells=[{"data": data, "draw": draw} for data, draws in DRAWS.items() for draw in draws],
    run=run,
    table=table,
    recipe=f"{UPDATES} or {MEMBERS * UPDATES} updates of {BATCH} images at rate {RATE}, {SIZE} px",
    seeds=DRAWS,
    about={"labels": LABELS, "updates": UPDATES, "interval": SMALL_DATA.about["interval"]},
    code=(*SMALL_DATA.code, "studies.small_data"),
)

if __name__ == "__main__":
    main(STUDY)
