"""README, model card and datasheet speak from the tables, to the last digit."""

import json

import pytest

from tests.conftest import ROOT

RESULTS = ROOT / "data" / "results"
TEXTS = {name: (ROOT / name).read_text() for name in ("README.md", "data/MODEL_CARD.md")}
EVIDENCE = json.loads((RESULTS / "breastmnist_evidence.json").read_text())
CONFIG = json.loads((RESULTS / "breastmnist_config.json").read_text())
NUMBERS = (25, 50, 100, 546)


def signed(row: dict) -> str:
    text = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    return text.replace("-", "−")


def difference(arm: str, against: str, n: int, test: str) -> dict:
    wanted = {"arm": arm, "against": against, "n_train": n, "test": test, "metric": "auc"}
    return next(r for r in EVIDENCE["differences"] if wanted.items() <= r.items())


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p; Holm, Scandinavian Journal of Statistics 6 (1979) 65."""
    order, adjusted, largest = sorted(range(len(p_values)), key=p_values.__getitem__), {}, 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = largest
    return [adjusted[k] for k in range(len(p_values))]


def missing_rows(text: str) -> list[str]:
    """Rows of the gains' tables that a text lacks: one network against one, and averages."""
    wanted = []
    for arm in ("ultrasound, fine-tuned", "ultrasound, averaged"):
        for n in NUMBERS:
            official, free = (difference(arm, "scratch", n, t) for t in ("official", "twin-free"))
            levels = f"{official['b']:.3f} | {official['a']:.3f}"
            wanted.append(f"| {n} | {levels} | {signed(official)} | {signed(free)} |")
    for against in ("shapes, averaged", "ImageNet 224, averaged"):
        rows = [difference("ultrasound, averaged", against, n, "twin-free") for n in NUMBERS]
        wanted.append(f"| {' | '.join(map(signed, rows))} |")
    return [row for row in wanted if row not in text]


@pytest.mark.parametrize("name", TEXTS)
def test_gains_are_the_tables(name):
    text = TEXTS[name]
    assert missing_rows(text) == []
    assert len(missing_rows(text.replace("+0.103", "+0.130").replace("0.753", "0.735"))) == 2
    assert text.index("| 25 | 0.625 | 0.728") < text.index(
        "| 25 | 0.625 | 0.753"
    )  # like with like first


def test_p_values_are_holms():
    of = lambda arm, against, test: holm([difference(arm, against, n, test)["p"] for n in NUMBERS])
    gains = of("ultrasound, fine-tuned", "scratch", "official")
    assert [f"{p:.3f}"[1:] for p in gains[:3]] == [
        ".016",
        ".004",
        ".025",
    ] and f"{gains[3]:.2f}" == "0.44"
    assert "p = .016, .004 and .025" in TEXTS["README.md"]
    assert "p = .016, .004, .025" in TEXTS["data/MODEL_CARD.md"]
    control = {
        t: of("ultrasound, averaged", "shapes, averaged", t) for t in ("official", "twin-free")
    }
    assert [f"{min(p):.2f}" for p in control.values()] == ["0.09", "0.16"]
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_the_cross_validated_level_stands_beside_the_test_sets():
    best = lambda arm, n: max(r["auc"] for r in CONFIG["cross_validation"][f"{arm} | {n}"])
    arms = ("ultrasound, fine-tuned", "ultrasound, averaged", "scratch")
    card = TEXTS["data/MODEL_CARD.md"]
    for n in (546, 100):
        fine_tuned, averaged, scratch = (f"{best(arm, n):.3f}"[1:] for arm in arms)
        assert f"{fine_tuned} fine-tuned, {averaged} averaged, {scratch} from scratch" in card
    assert "**.86**" in TEXTS["README.md"] and f"{best(arms[0], 546):.2f}" == "0.86"


def test_levels_are_the_tables():
    for row in EVIDENCE["levels"]:
        if row["metric"] == "auc":
            words = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            assert words in TEXTS["data/MODEL_CARD.md"], row
