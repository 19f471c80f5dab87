"""What keeps the Chinese parts equal to the English: each rule yields a sentence for a difference.

Both texts are cut into pieces (headings, points, paragraphs, rows of tables, code), one by one in
the same order. A pair of pieces must agree in its numbers, links, code and formulas.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from tests.chapters.reading_rules import GLOSSARY, TERM, is_deep

# numbers of chapters whose Chinese parts are still to come, such as "10": core, glossary, README
WAITING: frozenset[str] = frozenset()
# name of a block -> where its English text begins, or its heading; the block ends it
ENGLISH = {
    "学习目标": "**After this notebook you can**",
    "小结": "## Summary\n",
    "可能出错之处": "## What can go wrong\n",
    "核心思想": "## 1. The idea in one picture\n",
    "怎样读报告": "- **auc** stands",
    "怎样做练习": "**Exercises.**",
    "常见问题": "### Questions that everybody asks\n",
    "五个步骤": "## 4. The five steps, once, by hand\n",
    "怎样运行": "The next cell holds the *parameters*.",
    "六行代码": "## 2. Six lines on real tumours\n",
    "研究问什么": "## 3. What the source is worth on real tumours\n",
    "学习路线": "The path from 00 to 07 takes",
    "六种方式": "## 6. Six ways to use a source\n",
    "证据": "## 10. The evidence, in plain words\n",
}
# the blocks of a core, in their order; more of them where a beginner starts
WANTED = {
    "00": (
        *("学习目标", "怎样运行", "核心思想", "六行代码", "怎样读报告", "研究问什么"),
        *("学习路线", "怎样做练习", "可能出错之处", "小结"),
    ),
    "01": ("学习目标", "常见问题", "小结"),
    "05": ("学习目标", "五个步骤", "六种方式", "证据", "可能出错之处", "小结"),
}
EACH = ("学习目标", "小结")
BLOCK = re.compile(
    r'<details lang="zh-CN"><summary>中文：(.+?)</summary>\n\n(.*?)\n</details>', re.S
)
NUMBER = re.compile(r"[+−-]?\d+(?:,\d{3})*(?:\.\d+)?(?: ?%|[a-c]\b)?")
INTERVAL = re.compile(r"\(([+−]?[\d.]+) (?:to|至) ([+−]?[\d.]+)\)")
CODE = re.compile(r"```.*?```|`[^`]*`", re.S)
FORMULA = re.compile(r"\$[^$\n]+\$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
MARKER = re.compile(r"<!-- (.+?) -->")
NUMERALS = {
    **dict(zip("three four five six seven eight nine ten twelve thirty".split(), range(10))),
    **{"third": 0, "fourth": 1, "fifth": 2, "sixth": 3, "quarters": 1},
}
HAN_NUMERALS = "三 四 五 六 七 八 九 十 十二 三十".split()
EVERYDAY = ("round",)  # a term in one place, an everyday word in another


def pieces(text: str) -> list[tuple[str, str]]:
    """(kind, text) of headings, points, rows, paragraphs and blocks of code, in their order."""
    found: list[tuple[str, str]] = []
    text = re.sub(r"^\|[-|]+\|$\n?", "", text, flags=re.M)
    for part in re.split(r"(```.*?```)|\n\s*\n", text, flags=re.S):
        if part and part.startswith("```"):
            found.append(("code", re.sub(r" *#.*$", "", part, flags=re.M)))
        elif part and part.strip():
            found += _lines(part.strip("\n"))
    return found


def _lines(part: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in part.split("\n"):
        start = re.match(r"\d+\. |[-*#]+ |\||", line)[0]
        kind = "1." if start[:1].isdigit() else start.strip()
        if start or not found:
            found.append((kind, line[len(start) :]))
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found


def facts(text: str) -> dict[str, list]:
    """What must be the same in both languages, in its order."""
    names = [name.removesuffix(", in Chinese") for name in MARKER.findall(text)]
    bare = bare_text(text)
    return {
        "numbers": [re.sub(r"\s", "", n) for n in NUMBER.findall(bare)],
        "intervals": INTERVAL.findall(bare),
        "links": LINK.findall(text),
        "code": CODE.findall(text),
        "formulas": FORMULA.findall(CODE.sub(" ", text)),
        "tables": names,
        "bold": ["**"] * bare.count("**"),
    }


def bare_text(text: str) -> str:
    for pattern in (MARKER, CODE, FORMULA, LINK):
        text = pattern.sub("] " if pattern is LINK else " ", text)
    return re.sub(r"<[^>]+>", " ", text)


def numerals(english: str, chinese: str) -> tuple[Counter, Counter]:
    """Numbers in words, from three on (for one and two, Chinese has too many other uses)."""
    words = re.findall(r"[a-z]+", bare_text(english).lower())
    said = re.findall("十二|三十|[三四五六七八九十]", bare_text(chinese))
    meant = [HAN_NUMERALS[NUMERALS[word]] for word in words if word in NUMERALS]
    return Counter(meant), Counter(said)


def foreign(english: str, chinese: str) -> list[str]:
    """Latin words of the Chinese text that the English text has not."""
    words = re.findall(r"[A-Za-z]{2,}", bare_text(chinese))
    return [word for word in words if word.lower() not in bare_text(english).lower()]


def differences(english: str, chinese: str) -> Iterator[str]:
    """What differs between two texts."""
    one, other = pieces(english), pieces(chinese)
    if [kind for kind, _ in one] != [kind for kind, _ in other]:
        yield f"other parts: {[k for k, _ in one]} in English, {[k for k, _ in other]} in Chinese"
        return
    for (_, left), (_, right) in zip(one, other):
        yield from (f"{found}: {right[:60]!r}" for found in differing(left, right))


def differing(left: str, right: str) -> Iterator[str]:
    """What differs between two pieces, the left one English."""
    here, there = facts(left), facts(right)
    for what in here:
        if here[what] != there[what]:
            yield f"{what} {here[what]} in English, {there[what]} in Chinese"
    said, heard = numerals(left, right)
    if said != heard:
        yield f"numbers in words: {dict(said)} in English, {dict(heard)} in Chinese"
    if words := foreign(left, right):
        yield f"{words} not in English"
    for term, name in missing_terms(left, right):
        yield f"{term!r} is not called {name!r}"


# ---- terms ---------------------------------------------------------------------------------------


def rows(glossary: str = GLOSSARY) -> list[dict[str, str]]:
    """The glossary's rows; `pinyin` and `said` (the Chinese sentence) are empty if missing."""
    found = []
    for anchor, term, cell, sentence, said, number in TERM.findall(glossary):
        name, pinyin = re.fullmatch(r"\s*([^(]+?)\s*(?:\((.+)\))?\s*", cell).groups()
        found.append(
            {
                "anchor": anchor,
                "term": term.strip(),
                "name": name,
                "pinyin": pinyin or "",
                "sentence": sentence.strip(),
                "said": said.strip(),
                "number": number,
            }
        )
    return found


def missing_terms(left: str, right: str) -> Iterator[tuple[str, str]]:
    """Terms of the English piece whose Chinese name does not stand in the Chinese piece."""
    left, right = bare_text(left), bare_text(right)
    for row in sorted(rows(), key=lambda r: -len(r["term"])):
        term = re.compile(rf"\b{re.escape(row['term'])}(?:e?s|')?\b", re.I)
        if row["term"] in EVERYDAY or not term.search(left):
            continue
        left = term.sub(" ", left)  # "source task" is not "task", too
        if row["name"] not in right and row["term"].lower() not in right.lower():
            yield row["term"], row["name"]


def glossary_names(nb, path) -> Iterator[str]:
    """The Chinese beside a link to the glossary is the glossary's."""
    names = {row["anchor"]: row["name"] for row in rows()}
    beside = re.compile(r"\[([^\]]+)\]\(GLOSSARY\.md#([\w-]+)\)[*_]*\s*(?:[(（]([^)）]+))?")
    for cell in nb.cells:
        for text, anchor, said in beside.findall(cell.source):
            told = said if re.search(r"[\u4e00-\u9fff]", said) else text
            if (
                re.search(r"[\u4e00-\u9fff]", told)
                and re.split("[;,；，]", told)[0] != names[anchor]
            ):
                yield f"{cell.id}: {anchor} is called {told!r}, in the glossary {names[anchor]!r}"


FINAL = "(?:[iu]ang|iong|uai|[iu]an|iao|[aeio]ng|ai|ei|ao|ou|[aeiu]n|ia|ie|iu|u[aoie]|er|[aeiou])"
# with a consonant, or behind a space or apostrophe; "an" in "yuan" is no syllable
SYLLABLE = f"(?: ?(?:[zcs]h|[bpmfdtnlgkhjqxrzcsyw]){FINAL}|(?:^| ){FINAL})"


def reads(name: str, pinyin: str) -> bool:
    """Whether `pinyin` can be read as one syllable with a tone for each character of `name`.

    One syllable in a term may be toneless. Latin letters stand in both.
    """
    n = len(re.findall(r"[\u4e00-\u9fff]", name))
    for latin in re.findall(r"[A-Za-z]+\d*", name):
        if latin not in pinyin:
            return False
        pinyin = pinyin.replace(latin, "", 1)
    letters = unicodedata.normalize("NFD", re.sub(r"[ ']+", " ", pinyin).strip())
    tones = len(re.findall("[\u0300\u0301\u0304\u030c]", letters))
    plain = re.sub(r"[\u0300-\u036f]", "", letters)
    return n - 1 <= tones <= n and bool(re.fullmatch(f"{SYLLABLE}{{{n}}}", plain))


def glossary_is_complete(glossary: str = GLOSSARY) -> Iterator[str]:
    for row in rows(glossary):
        term, both = row["term"], (row["sentence"], row["said"])
        if row["number"] in WAITING:
            continue
        if not reads(row["name"], row["pinyin"]):
            yield f"{term}: {row['name']} is not read {row['pinyin']!r}"
        if not re.search(r"[\u4e00-\u9fff].*。$", row["said"]):
            yield f"{term}: no Chinese sentence"
        if len({str(sorted(NUMBER.findall(text))) for text in both}) > 1:
            yield f"{term}: other numbers in Chinese"
        said, heard = numerals(*both)
        if said != heard or foreign(f"{term} {row['sentence']}", row["said"]):
            yield f"{term}: other numbers or words in Chinese"


# ---- notebooks -----------------------------------------------------------------------------------


def blocks(nb) -> list[tuple[str, str, str]]:
    """Each Chinese block: its name, the English text above it ("" if none), the Chinese in it."""
    found = []
    for cell in nb.cells:
        for match in BLOCK.finditer(cell.source if cell.cell_type == "markdown" else ""):
            above = BLOCK.sub("", cell.source[: match.start()])
            start = above.rfind(ENGLISH.get(match[1], "\0"))
            found.append((match[1], above[start:] if start >= 0 else "", match[2]))
    return found


def speaks_chinese(nb, path) -> Iterator[str]:
    """The Chinese blocks of a core stand below their English text, and say the same."""
    number = path.stem.split("_")[0]
    if is_deep(path) or number in WAITING:
        return
    found = blocks(nb)
    wanted = WANTED.get(number, EACH)
    if (names := tuple(name for name, *_ in found)) != wanted:
        yield f"Chinese blocks {names}, wanted {wanted}"
    for name, english, chinese in found:
        if not english:
            yield f"{name}: not below its English text"
            continue
        english = re.sub(r"^#+ .*\n", "", english)
        yield from (f"{name}: {found}" for found in differences(english, chinese))
