"""Notebook 12: sentences say what is true of the lesion; a parser of its own reads them back."""

import re

import numpy as np
import pytest

from medtl_utils import phantom
from studies import cross_modal, cross_modal_table, report_sentences
from tests.chapters.notebook_code import namespace


def planted(name: str | None = None, *changes: tuple[str, str]) -> dict:
    """What the notebook defines, with mistakes in the function `name`."""
    space = namespace("12", *changes, within=name)
    space["FACTS"] = [(n, v) for n in space["WORDS"] for v in phantom.DESCRIPTORS[n]]
    space["FACTS"] += list(space["FINDINGS"].items())
    return space


N = planted()

# what a reader takes from the words, written down a second time: pattern -> fact
SAYS = {
    "oval|ovoid": "shape: oval",
    "round|circular": "shape: round",
    "irregular|uneven": "shape: irregular",
    "circumscribed|well-defined": "margin: circumscribed",
    "microlobulated|scalloped": "margin: microlobulated",
    "indistinct|blurred": "margin: indistinct",
    "angular|cornered": "margin: angular",
    "spiculated|spiky": "margin: spiculated",
    "hypoechoic|dark": "echo: hypoechoic",
    "isoechoic|grey as fat": "echo: isoechoic",
    "anechoic|black": "echo: anechoic",
    "heterogeneous|mixed": "echo: heterogeneous",
    "longer in width than in depth|SIDEWAYS": "orientation: parallel",
    "longer in depth than in width|UPRIGHT": "orientation: not parallel",
    "acoustic shadow|shadow": "shadow",
    "bright band behind|enhancement": "enhancement",
    "bright specks|calcifications": "calcifications",
    "echogenic rim|halo": "halo",
}


def read(sentence: str) -> dict[str, int]:
    """Fact -> 1 or -1, word by word: a negation holds for the next thing that is named."""
    found = {}
    for clause in sentence.split(", "):
        clause = clause.replace("not parallel to the skin", "UPRIGHT")
        clause = clause.replace("parallel to the skin", "SIDEWAYS")
        named = [
            (place.start(), place.end(), fact)
            for pattern, fact in SAYS.items()
            for place in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", clause)
        ]
        end = 0
        for start, stop, fact in sorted(named):
            before = clause[end:start].split()
            no = bool({"no", "not", "without", "neither", "nor"} & set(before))
            no |= clause[stop:].strip() == "absent"
            found[fact] = -1 if no else 1
            end = stop
    return found


def lesions(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = [phantom.draw_descriptors(rng, bool(k % 2)) for k in range(n)]
    return report_sentences.facts_of({k: np.array([d[k] for d in drawn]) for k in drawn[0]})


def is_read_back(write_report, n: int = 600) -> bool:
    """The parser finds exactly the claims; all are true; the FEWEST are kept."""
    rng = np.random.default_rng(1)
    for facts in lesions(n):
        sentence, claims = write_report(facts, rng)
        want = {report_sentences.FACT_NAMES[k]: int(claims[k]) for k in np.flatnonzero(claims)}
        if read(sentence) != want or len(want) < 3:
            return False
        if not all(facts[claims == 1]) or any(facts[claims == -1]):
            return False
    return True


def test_a_parser_recovers_the_claims():
    assert is_read_back(N["write_report"]) and is_read_back(report_sentences.write_report)


@pytest.mark.parametrize(
    "change",
    [
        ("np.where(facts[said], 1, -1)", "1"),
        ("'there' if facts[k] else 'not there' for k in pair", "'there' for k in pair"),
        ("-1 if 'not {' in form else 0", "0"),
        ("claims[start + value], claims[start + other]", "claims[start + other], claims[start]"),
        ("pick(ways[value]), pick(ways[other])", "pick(ways[other]), pick(ways[value])"),
        ("np.count_nonzero(claims) < 3", "False"),
    ],
)
def test_the_parser_test_bites(change):
    assert not is_read_back(planted("write_report", change)["write_report"])


def test_the_sentences_vary():
    """Synonyms, omissions, negations and orders all occur; hardly two sentences are the same."""
    facts = lesions(500)
    sentences, claims = report_sentences.write_all(facts, 3)
    assert len(set(sentences)) > 0.98 * len(sentences)
    assert ((claims == -1).any(1)).mean() > 0.7 and ((claims == 0).mean() > 0.5)
    for pattern in SAYS:
        for way in pattern.split("|"):
            if way.islower():
                assert any(way in sentence for sentence in sentences), way
    starts = {sentence.split(",")[0].split()[0] for sentence in sentences}
    assert len(starts) > 15


def test_the_study_writes_the_same_sentences():
    facts = lesions(50, seed=2)
    here, there = (np.random.default_rng([12, 5]) for _ in range(2))
    written = [N["write_report"](row, here) for row in facts]
    again = [report_sentences.write_report(row, there) for row in facts]
    assert all(a == c and (b == d).all() for (a, b), (c, d) in zip(written, again))


def true_by_loops(is_true) -> bool:
    facts = lesions(30, seed=4)
    claims = report_sentences.write_all(lesions(25, seed=5), 1)[1]
    want = np.array(
        [[all(row[k] == (c[k] == 1) for k in np.flatnonzero(c)) for row in facts] for c in claims]
    )
    return bool((is_true(claims, facts) == want).all()) and 0 < want.mean() < 0.5


def test_of_which_lesions_a_sentence_is_true():
    assert true_by_loops(N["is_true"]) and true_by_loops(report_sentences.is_true)
    for change in (("~facts.T", "facts.T"), ("~(denied | missing)", "~missing")):
        assert not true_by_loops(planted("is_true", change)["is_true"])


def has_the_facts(facts_of) -> bool:
    rng = np.random.default_rng(0)
    drawn = [phantom.draw_descriptors(rng, None) for _ in range(60)]
    found = facts_of({k: np.array([d[k] for d in drawn]) for k in drawn[0]})
    for d, row in zip(drawn, found):
        value = {name: phantom.DESCRIPTORS[name][k] for name, k in d.items()}
        want = {f"{name}: {value[name]}" for name in ("shape", "margin", "orientation", "echo")}
        want |= {value["posterior"]} & {"shadow", "enhancement"}
        want |= {name for name in ("calcifications", "halo") if value[name] == "present"}
        if {report_sentences.FACT_NAMES[k] for k in np.flatnonzero(row)} != want:
            return False
    return True


def test_facts_are_the_descriptors():
    assert has_the_facts(N["facts_of"]) and has_the_facts(report_sentences.facts_of)
    assert not has_the_facts(planted("facts_of", ("[[2, 1]]", "[[1, 2]]"))["facts_of"])


def test_a_bag_of_words_cannot_tell_mirrored_sentences():
    facts = {name: k for k, name in enumerate(report_sentences.FACT_NAMES)}
    for pairs in cross_modal.MIRRORS.values():
        for one, other, a, b in pairs:
            assert sorted(one.split()) == sorted(other.split()) and one != other
            assert a in facts and b in facts
            assert read(one)[a] == 1 and read(other).get(a, -1) == -1
            assert read(other)[b] == 1 and read(one).get(b, -1) == -1


def claims_are_those_of_the_prompts(claims: dict) -> bool:
    for name, prompts in report_sentences.PROMPTS.items():
        for prompt, text in zip(prompts, claims[name], strict=True):
            said = cross_modal_table.prompt_claims(text)
            want = {report_sentences.FACT_NAMES[k]: said[k] for k in np.flatnonzero(said)}
            if read(prompt) != want:
                return False
    return True


def test_the_heads_are_asked_what_the_prompts_say():
    right = cross_modal_table.PROMPT_CLAIMS
    assert claims_are_those_of_the_prompts(right)
    wrong = right | {"benign": (right["benign"][0].replace("-halo", "halo"), *right["benign"][1:])}
    assert not claims_are_those_of_the_prompts(wrong)
