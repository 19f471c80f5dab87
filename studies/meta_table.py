"""The table of studies.meta_learning: means over questions, and differences from the probe."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import stats

from medtl_utils import phantom
from studies.few_shot import NEW_SCANNER, QUESTIONS, SCANNERS, SHOTS, SOURCES, TASKS, sides
from studies.tables import over_seeds

WHERE = ("near", "far")
N_Q, N_S = len(QUESTIONS), len(SCANNERS)


def interval(each: np.ndarray, bounds=(0.0, 1.0)) -> dict:
    """Mean of one value a question, and its t interval over questions."""
    return over_seeds(each, bounds=bounds)


def by_question(results: list, seeds) -> dict:
    """(source, arm) -> side -> accuracies (trainings, SHOTS, questions): scanners, episodes apart.

    Near tasks have two trainings with a seed, from the two groups in which they were not held out.
    """
    found = {}
    for cell, arrays in results:
        key = (cell["source"], cell["arm"])
        if cell["part"] == "plain":
            cube = arrays["all"].reshape(1, len(SHOTS), N_Q, N_S, -1)
            found[key] = {"far": cube.mean((3, 4)), "near": cube[:, :, :, NEW_SCANNER].mean(3)}
        elif cell["part"] == "meta":
            sums = found.setdefault(key, {side: new_sums(len(seeds)) for side in (*WHERE, "train")})
            for side, where in sides(cell["fold"]).items():
                total, count = sums[side]
                for column, task in enumerate(where):
                    total[cell["seed"], :, TASKS[task][0]] += arrays[side][:, column].mean(1)
                    count[cell["seed"], :, TASKS[task][0]] += 1
    for key, made in found.items():
        found[key] = {s: whole(v) if isinstance(v, tuple) else v for s, v in made.items()}
    return found


def whole(parts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Means, of the trainings that were made."""
    total, count = parts
    made = count[:, 0].any(axis=1)
    return total[made] / count[made]


def new_sums(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((n, len(SHOTS), N_Q)), np.zeros((n, len(SHOTS), N_Q))


def level_rows(found: dict) -> list[dict]:
    rows = []
    for (source, arm), parts in found.items():
        for where, (k, shots) in itertools.product(parts, enumerate(SHOTS)):
            values = parts[where][:, k]
            row = {"source": source, "arm": arm, "where": where, "shots": shots}
            row |= interval(values.mean(0)) | {"each": values.mean(0)}
            if len(values) > 1:
                row["sd_of_trainings"] = values.mean(1).std(ddof=1)
            rows.append(row)
    return rows


def difference_rows(found: dict, pairs) -> list[dict]:
    """Paired by question. `pairs`: (arm, against)."""
    rows = []
    for source, (arm, against), where in itertools.product(SOURCES, pairs, WHERE):
        both = all((source, a) in found for a in (arm, against))
        for k, shots in enumerate(SHOTS if both else ()):
            one, other = (found[source, a][where][:, k].mean(0) for a in (arm, against))
            row = {"source": source, "arm": arm, "against": against}
            row |= {"where": where, "shots": shots}
            rows.append(row | interval(one - other, (-1, 1)))
    return rows


def descriptor_rows(found: dict, arms) -> list[dict]:
    """Each descriptor counts once: what the interval is if questions of one hang together."""
    names, rows = list(phantom.DESCRIPTORS), []
    of = np.array([names.index(name) for name, *_ in QUESTIONS])
    for source, arm in itertools.product(SOURCES, arms):
        if (source, arm) not in found:
            continue
        gap = (found[source, arm]["far"] - found[source, "probe"]["far"])[:, SHOTS.index(5)].mean(0)
        each = np.array([gap[of == k].mean() for k in range(len(names))])
        row = {"source": source, "arm": arm} | interval(each, (-1, 1))
        rows.append(row | {"each": dict(zip(names, each.tolist()))})
    return rows


def tuned_rows(results: list, probe: np.ndarray, draws: int, sources) -> list[dict]:
    """Fine-tuning minus the probe of "ultrasound", same episodes, scanner C."""
    cube = probe.reshape(len(SHOTS), N_Q, N_S, -1)[:, :, NEW_SCANNER, :draws].mean(2)
    rows = []
    for source in sources:
        cells = [r["accuracy"] for c, r in results if c["part"] == "tune" and c["source"] == source]
        mean = np.mean(cells, axis=0)
        for k, shots in enumerate(SHOTS):
            row = {"source": source, "shots": shots, "level": interval(mean[k])}
            rows.append(row | interval(mean[k] - cube[k], (-1, 1)))
    return rows


def real_rows(results: list, names) -> list[dict]:
    """Mean over the pairs of a set's classes, with the lowest and the highest pair: no interval."""
    found = {}
    for cell, arrays in results:
        if "real" in arrays:
            found.setdefault((cell["source"], cell["arm"]), []).append(arrays["real"].mean(2))
    rows = []
    for (source, arm), cubes in found.items():
        mean = np.mean(cubes, axis=0)  # (SHOTS, pairs)
        for name, (k, shots) in itertools.product(dict.fromkeys(names), enumerate(SHOTS)):
            values = mean[k][[n == name for n in names]]
            row = {"set": name, "source": source, "arm": arm, "shots": shots}
            ends = {"value": values.mean(), "lowest": values.min(), "highest": values.max()}
            rows.append(row | ends)
    return rows


def primary_row(found: dict, primary: dict) -> dict:
    one, probe = (
        found[primary["source"], arm][primary["where"]][:, SHOTS.index(primary["shots"])].mean(0)
        for arm in (primary["arm"], "probe")
    )
    p = float(stats.ttest_1samp(one - probe, 0).pvalue)
    return primary | interval(one - probe, (-1, 1)) | {"p": p}
