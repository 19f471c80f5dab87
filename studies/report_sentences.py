"""Report sentences written from a lesion's descriptors, and the claims that each makes.

A claim concerns one of 18 facts, such as "margin: angular" or "shadow". A sentence asserts a fact,
denies it, or is silent about it. Words, their order, omissions and negations vary; all that is said
is true of the lesion.
"""

from __future__ import annotations

import re

import numpy as np

from medtl_utils.phantom_tables import DESCRIPTORS

# two or more ways to say each fact; a fact of FINDINGS is said to be there, or not to be there
WORDS = {
    "shape": (("oval", "ovoid"), ("round", "circular"), ("irregular", "uneven")),
    "margin": (
        ("circumscribed", "well-defined"),
        ("microlobulated", "scalloped"),
        ("indistinct", "blurred"),
        ("angular", "cornered"),
        ("spiculated", "spiky"),
    ),
    "orientation": (
        ("parallel to the skin", "longer in width than in depth"),
        ("not parallel to the skin", "longer in depth than in width"),
    ),
    "echo": (
        ("hypoechoic", "dark"),
        ("isoechoic", "grey as fat"),
        ("anechoic", "black"),
        ("heterogeneous", "mixed"),
    ),
}
FINDINGS = {
    "shadow": ("shadow", "acoustic shadow"),
    "enhancement": ("enhancement", "bright band behind"),
    "calcifications": ("calcifications", "bright specks"),
    "halo": ("halo", "echogenic rim"),
}
FORMS = {
    "shape": ("{} shape", "{} in shape", "shape {}"),
    "margin": ("{} margin", "margin {}", "{} margin not {}", "margin not {1} but {0}"),
    "orientation": ("{}", "axis {}"),
    "echo": ("{}", "{} inside", "{} echo pattern"),
    "there, not there": ("{} but no {}", "{} without {}", "no {1} but {0}", "without {1} but {0}"),
    "there, there": ("{} and {}", "with {} and {}"),
    "not there, not there": ("neither {} nor {}", "no {} and no {}", "without {} and without {}"),
    "there": ("{}", "with {}", "{} seen"),
    "not there": ("no {}", "without {}", "{} absent"),
}
NOUNS = ("mass", "lesion", "nodule")
SAID = {"shape": 0.8, "margin": 0.8, "orientation": 0.6, "echo": 0.7}  # else the report is silent
SAID_THERE, SAID_ABSENT = 0.85, 0.4
FACTS = [(name, value) for name in WORDS for value in DESCRIPTORS[name]] + list(FINDINGS.items())
FACT_NAMES = [f"{n}: {v}" if n in WORDS else n for n, v in FACTS]
FEWEST = 3  # claims in a sentence


def facts_of(descriptors: dict[str, np.ndarray]) -> np.ndarray:
    """bool (N, 18): which facts hold for each of N lesions, from indices into DESCRIPTORS."""
    columns = [
        np.asarray(descriptors[name]) == k for name in WORDS for k in range(len(DESCRIPTORS[name]))
    ]
    posterior = np.asarray(descriptors["posterior"])
    columns += [posterior == 2, posterior == 1]
    columns += [np.asarray(descriptors[name]) == 1 for name in ("calcifications", "halo")]
    return np.stack(columns, 1)


def pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def write_report(facts: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """One sentence about a lesion with the facts, bool (18,), and its claims, int8 (18,).

    A claim is 1 (asserted), -1 (denied) or 0 (silent).
    """
    claims = np.zeros(len(FACTS), np.int8)
    clauses, start = [], 0
    for name, ways in WORDS.items():
        here, start = start, start + len(ways)
        value = int(facts[here:start].argmax())
        if rng.random() < SAID[name]:
            form = pick(rng, FORMS[name])
            other = (value + 1 + int(rng.integers(len(ways) - 1))) % len(ways)
            clauses.append(form.format(pick(rng, ways[value]), pick(rng, ways[other])))
            claims[here + value] = 1
            claims[here + other] = -1 if "not {" in form else 0
    said = [k for k in range(start, len(FACTS)) if rng.random() < chance_said(facts[k])]
    claims[said] = np.where(facts[said], 1, -1)
    clauses += [finding(pair, facts, rng) for pair in in_pairs(rng.permutation(said))]
    if np.count_nonzero(claims) < FEWEST:
        return write_report(facts, rng)
    clauses = [clauses[k] for k in rng.permutation(len(clauses))]
    noun = pick(rng, NOUNS)
    place = int(rng.integers(2))  # the noun opens the sentence, or stands after the first clause
    return ", ".join([*clauses[:place], noun, *clauses[place:]]), claims


def chance_said(there: bool) -> float:
    return SAID_THERE if there else SAID_ABSENT


def in_pairs(rows: np.ndarray) -> list[list[int]]:
    """Findings two by two, as they stand in one clause; the last may be alone."""
    return [list(map(int, rows[k : k + 2])) for k in range(0, len(rows), 2)]


def finding(pair: list[int], facts: np.ndarray, rng: np.random.Generator) -> str:
    """A clause about one or two findings; what is there comes first."""
    pair = sorted(pair, key=lambda k: not facts[k])
    kind = ", ".join("there" if facts[k] else "not there" for k in pair)
    return pick(rng, FORMS[kind]).format(*(pick(rng, FACTS[k][1]) for k in pair))


def write_all(facts: np.ndarray, seed: int) -> tuple[list[str], np.ndarray]:
    """A sentence for each lesion, and int8 (N, 18) claims."""
    rng = np.random.default_rng([12, seed])
    made = [write_report(row, rng) for row in facts]
    return [sentence for sentence, _ in made], np.stack([claims for _, claims in made])


def is_true(claims: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """bool (sentences, lesions): whether all that a sentence claims holds for a lesion."""
    facts = facts.astype(int)
    wrong = (claims == 1).astype(int) @ (1 - facts.T) + (claims == -1).astype(int) @ facts.T
    return wrong == 0


# ---- words as numbers ----------------------------------------------------------------------------


def tokens(sentence: str) -> list[str]:
    return re.findall(r"[a-z-]+", sentence.lower())


def vocabulary() -> list[str]:
    """All words that a sentence can hold; place 0 is for padding."""
    ways = [w for options in (*WORDS.values(), *FINDINGS.values()) for w in np.ravel(options)]
    texts = [*ways, *NOUNS, *(re.sub(r"\{\d?\}", " ", f) for g in FORMS.values() for f in g)]
    return ["", *sorted({word for text in texts for word in tokens(text)})]


def encode(sentences: list[str], length: int = 48) -> np.ndarray:
    """int64 (N, length): the number of each word, 0 where there is none. Raises KeyError."""
    place = {word: k for k, word in enumerate(vocabulary())}
    rows = np.zeros((len(sentences), length), np.int64)
    for row, sentence in zip(rows, sentences):
        words = [place[word] for word in tokens(sentence)]
        row[: len(words)] = words
    return rows


# Fixed before any result was seen: typical findings of the ACR BI-RADS lexicon, in these words.
PROMPTS = {
    "malignant": (
        "mass, irregular shape, spiculated margin, not parallel to the skin, hypoechoic, shadow",
        "irregular in shape, lesion, angular margin, longer in depth than in width, dark, "
        "with halo",
        "nodule, margin not circumscribed but spiculated, shape irregular, shadow and halo",
        "uneven shape, mass, cornered margin, axis not parallel to the skin, calcifications",
    ),
    "benign": (
        "mass, oval shape, circumscribed margin, parallel to the skin, neither shadow nor halo",
        "oval in shape, lesion, well-defined margin, longer in width than in depth, no shadow",
        "nodule, margin not spiculated but circumscribed, shape oval, anechoic, enhancement",
        "ovoid shape, mass, circumscribed margin, axis parallel to the skin, no halo",
    ),
}
