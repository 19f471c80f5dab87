"""Notebook 09: the adapter dial counts what the networks count, and tells what the table holds."""

import copy
import html
import json
import re

import pytest

from medtl_utils import replace_head, source_model, widgets
from studies import adapters as study
from tests.conftest import ROOT, picture

TABLE = json.loads((ROOT / "data/results/unrelated_tasks.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def base():
    return replace_head(source_model("ultrasound"), 2).eval()


def dial_is_right(base) -> bool:
    """What it says of every method is what the networks count, and what the table holds."""
    from medtl_utils.widgets import chapter_09

    rows = {(r["method"], r["n"]): r for r in TABLE["methods"] if r["target"] == "busi"}
    box = widgets.adapter_dial(TABLE, "busi")
    method, rank, labelled = box.children[:3]
    for place, name in enumerate(chapter_09.METHODS):
        method.value = place
        row = rows[name, 100]
        text = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))
        model = study.METHODS[name](copy.deepcopy(base))
        want = {}
        for part, p in model.named_parameters():
            block = chapter_09._block(part)
            want[block] = want.get(block, 0) + p.numel() * p.requires_grad
        told = ", ".join(f"{block} {want[block]:,}" for block in chapter_09.BLOCKS)
        auc = f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        if told not in text or f"labelled images: {auc}" not in text:
            return False
        if row["trained"] != sum(want.values()):
            return False
    return True


def test_the_dial_counts_what_moves(base, monkeypatch):
    from medtl_utils.widgets import chapter_09

    assert dial_is_right(base)
    box = widgets.adapter_dial(TABLE, "retinamnist")
    box.children[1].value = 2
    assert "rank 4 alone" in picture(box)
    with pytest.raises(ValueError, match="no target 'x'. Choose one of: busi, retinamnist"):
        widgets.adapter_dial(TABLE, "x")
    right = chapter_09._counts
    monkeypatch.setattr(chapter_09, "_counts", lambda m, r: right(m, r) | {"layer1": 7})
    assert not dial_is_right(base)
