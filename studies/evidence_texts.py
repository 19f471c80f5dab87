"""The tables in README, model card and datasheet, written from data/results/.

    python -m studies.evidence_texts

A place is marked by <!-- table: NAME --> and <!-- end -->; what stands between is written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from medtl_utils.paths import data_folder
from medtl_utils.phantom import DESCRIPTORS
from studies.evidence_shown import FIRST, draw, row_of, signed, sizes

FILES = ("README.md", "README.zh-CN.md", "data/MODEL_CARD.md", "data/README.md")
PLACE = re.compile(r"(<!-- table: (.+?) -->\n\n)(.*?)(\n\n<!-- end -->)", re.S)


def lines_of(heads: list[str], rows: list[list[str]]) -> str:
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(heads), "|" + "---|" * len(heads), *map(line, rows)])


def level(row: dict) -> str:
    """0.871 (0.842 to 0.900), with a true minus."""
    return "{value:.3f} ({low:.3f} to {high:.3f})".format_map(row).replace("-", "−")


def name_of(n: int | None) -> str:
    return "all" if n is None else str(n)


def small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def primary(evidence: dict) -> str:
    """The primary claim, a line a number of labelled images."""
    heads = ["labelled images", "from scratch, AUC", "from simulated ultrasound, AUC"]
    rows = []
    for n in sizes(evidence):
        gain = row_of(evidence["gains"], arm="ultrasound", against="scratch", n=n)
        levels = [
            f"{row_of(evidence['levels'], arm=arm, n=n, metric='auc')['value']:.3f}"
            for arm in ("scratch", "ultrasound")
        ]
        rows.append([name_of(n), *levels, signed(gain), small(gain["holm"])])
    return lines_of([*heads, "gain (95 % interval)", "Holm p"], rows)


def first(evidence: dict) -> str:
    """The first repetition: one training of each source, so no p-value."""
    heads = ["labelled images", "from scratch, AUC", "from simulated ultrasound, AUC"]
    rows = []
    for n in sizes(evidence):
        of = lambda arm, n=n: row_of(evidence["levels"], arm=arm, n=n, metric="auc")
        gain = lambda against, n=n: signed(
            row_of(evidence["gains"], arm="ultrasound", against=against, n=n)
        )
        levels = [f"{of(arm)['value']:.3f}" for arm in ("scratch", "ultrasound")]
        rows.append([name_of(n), *levels, gain("scratch"), gain("shapes")])
    return lines_of([*heads, "gain over scratch", "gain over the control"], rows)


def recipes(table: dict) -> str:
    """Every way of either side, by cross-validation."""
    rows = []
    for row in table["ways"]:
        name = f"**{row['way']}**" if table["chosen"][row["side"]] == row["way"] else row["way"]
        rows.append([row["side"], name, str(row["updates"]), level(row)])
    return lines_of(["side", "way (bold: chosen)", "updates", "AUC, folds 1 to 4"], rows)


def recipes_test(table: dict) -> str:
    """The chosen way of either side on the test fold."""
    rows = []
    for row in table["levels"]:
        side = row["side"]
        updates = str(table["updates"][side])
        rows.append([side, table["chosen"][side], updates, level(row)])
    gain = table["gain"] | {"value": table["gain"]["difference"]}
    rows.append(["transfer minus scratch", "", "", signed(gain)])
    return lines_of(["side", "way", "updates", "AUC, fold 0"], rows)


def accuracies(table: dict) -> str:
    """How often the source names each descriptor rightly, and guessing."""
    guess = {name: 1 / len(values) for name, values in DESCRIPTORS.items()} | {"lesion": 0.85}
    rows = [[n, f"{v:.3f}", f"{guess[n]:.2f}"] for n, v in table["accuracy"].items()]
    return lines_of(["descriptor", "accuracy", "chance"], rows)


def two_samples(table: dict) -> str:
    """How easily simulated images are told from real ones, at the same mean and SD."""
    rows = []
    for name in dict.fromkeys(row["simulated"] for row in table["rows"]):
        of = lambda reader, name=name: row_of(
            table["rows"], simulated=name, grey="mean and SD alike", reader=reader
        )
        both = [of(reader) for reader in ("spectrum", "network")]
        rows.append([name, *(level(row | {"value": row["auc"]}) for row in both)])
    return lines_of(["simulated", "spectrum and grey levels", "ResNet-18 from scratch"], rows)


def hindsight(best: dict) -> str:
    """Against the recipe that was best for scratch, found on the tested images themselves."""
    rows = []
    for n in sizes(best):
        gain = row_of(best["gains"], arm="ultrasound", against="scratch", n=n)
        scratch = row_of(best["levels"], arm="scratch", n=n, metric="auc")
        way = row_of(best["ways"], n=n)["way"]
        rows.append([name_of(n), way, level(scratch), signed(gain), small(gain["holm"])])
    heads = ["labelled images", "what suited scratch best", "its AUC", "gain that is left"]
    return lines_of([*heads, "Holm p"], rows)


def by_arm(rows: list[dict], title: str, cell: Callable[[dict], str]) -> str:
    """One line an arm, one column a number of labelled images."""
    ns = sorted({row["n"] for row in rows}, key=lambda n: n or 10**6)
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = {row["n"]: cell(row) for row in rows if row["arm"] == arm}
        lines.append([arm, *(own.get(n, "") for n in ns)])
    return lines_of([title, *map(name_of, ns)], lines)


def levels_on(rows: list[dict], metric: str = "auc") -> str:
    rows = [row for row in rows if row["metric"] == metric]
    return by_arm(rows, "AUC" if metric == "auc" else metric, level)


def gains_on(rows: list[dict], against: str) -> str:
    rows = [row for row in rows if row["against"] == against]
    return by_arm(rows, f"gain in AUC over {against}", signed)


def copies(evidence: dict) -> str:
    """The gains again, with other thresholds for near-copies."""
    names = {"group": "as published", "group_looser": "looser", "group_stricter": "stricter"}
    rows = [*evidence["gains"], *evidence["other_thresholds"]]
    wanted = {"arm": "ultrasound", "against": "scratch"}
    lines = [
        [name_of(n), *(signed(row_of(rows, n=n, copies=copy, **wanted)) for copy in names)]
        for n in sizes(evidence)
    ]
    return lines_of(["labelled images", *names.values()], lines)


def on(rows: list[dict], data: str) -> list[dict]:
    return [row for row in rows if row.get("data") == data]


def official(table: dict) -> str:
    """The footnote."""
    lines = []
    for images in ("all", "clear"):
        rows = [row for row in table["rows"] if row["images"] == images]
        for row in rows:
            if row["against"] is None:
                gain = [r for r in rows if r["arm"] == row["arm"] and r["against"]]
                ending = [signed(gain[0]) if gain else ""]
                lines.append([f"{images} ({row['n']})", row["arm"], level(row), *ending])
    return lines_of(["test images", "arm", "AUC", "gain over scratch"], lines)


# words of the tables that README.zh-CN.md shows, as the glossary says them
IN_CHINESE = {
    "labelled images": "有标签图像数",
    "all": "全部",
    "from scratch, AUC": "从头训练，AUC",
    "from simulated ultrasound, AUC": "从模拟超声开始，AUC",
    "gain over scratch": "相对于从头训练的增益",
    "gain over the control": "相对于对照的增益",
    "side": "侧",
    "way": "方式",
    "updates": "更新次数",
    "AUC, fold 0": "AUC，第 0 折",
    "transfer": "迁移",
    "scratch": "从头训练",
    "transfer minus scratch": "迁移减从头训练",
    "full rate": "完整学习率",
    "twice as long": "两倍时长",
}


def in_chinese(table: str) -> str:
    """The same table, every number as it is. Raises KeyError for a word without a translation."""
    word = lambda cell: IN_CHINESE[cell] if re.search(r"[a-z]{2}", cell) else cell
    lines = [line[2:-2].replace(" to ", " 至 ").split(" | ") for line in table.split("\n")]
    return lines_of([word(c) for c in lines[0]], [[word(c) for c in row] for row in lines[2:]])


METRICS = ("sensitivity at 90 % specificity", "brier", "calibration slope")
# name of a place -> from the tables, by name, to Markdown
TABLES: dict[str, Callable[[dict[str, dict]], str]] = {
    "first": lambda t: first(t["evidence_first"]),
    "first levels": lambda t: levels_on(t["evidence_first"]["levels"]),
    "recipes": lambda t: recipes(t["recipes"]),
    "recipes, test fold": lambda t: recipes_test(t["recipes_test"]),
    "accuracies": lambda t: accuracies(t["pretrain"]),
    "two samples": lambda t: two_samples(t["real_or_simulated"]),
    "gains": lambda t: primary(t["evidence"]),
    "hindsight": lambda t: hindsight(t["scratch_best"]),
    "levels": lambda t: levels_on(
        [*t["evidence"]["levels"], *others(t["evidence"], on(t["evidence_more"]["levels"], "busi"))]
    ),
    "gains over the control": lambda t: gains_on(on(t["evidence_more"]["gains"], "busi"), "shapes"),
    "copies": lambda t: copies(t["evidence"]),
    "official": lambda t: official(t["official"]),
}
for metric in METRICS:
    TABLES[metric] = lambda t, metric=metric: levels_on(t["evidence"]["levels"], metric)
    TABLES[f"first, {metric}"] = lambda t, metric=metric: levels_on(
        t["evidence_first"]["levels"], metric
    )
for part in ("busi, with mirror images", "busi, three networks", "breastmnist", "retinamnist"):
    TABLES[part] = lambda t, part=part: levels_on(on(t["evidence_more"]["levels"], part))
    TABLES[f"gains, {part}"] = lambda t, part=part: gains_on(
        on(t["evidence_more"]["gains"], part), "scratch"
    )
for part in ("first", "recipes, test fold"):
    TABLES[f"{part}, in Chinese"] = lambda t, part=part: in_chinese(TABLES[part](t))


def others(evidence: dict, rows: list[dict]) -> list[dict]:
    """Rows of arms that the evidence does not have already."""
    known = {row["arm"] for row in evidence["levels"]}
    return [row for row in rows if row["arm"] not in known]


class Tables(dict):
    """data/results/NAME.json by name, read when asked for."""

    def __missing__(self, name: str) -> dict:
        self[name] = json.loads((data_folder() / "results" / f"{name}.json").read_text())
        return self[name]


def filled(text: str, tables: dict[str, dict]) -> str:
    """The text with every marked table written anew.

    Raises KeyError, naming the place, for a table that there is not.
    """
    return PLACE.sub(lambda m: m[1] + TABLES[m[2]](tables) + m[4], text)


def main() -> None:
    tables, root = Tables(), Path(data_folder()).parent
    draw(tables["evidence_first"], FIRST)
    for name in FILES:
        file = root / name
        file.write_text(filled(file.read_text(encoding="utf-8"), tables), encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
