"""The Chinese parts say what the English parts say: the same numbers, points, links and terms.

Folded blocks in the cores, the glossary, and README.zh-CN.md.
"""

import copy
import re

import pytest

from tests.chapters import chinese_rules as rules
from tests.chapters.notebook_code import path_of
from tests.chapters.reading_rules import FOLDER, NOTEBOOKS, TEMPLATE, is_deep, read
from tests.conftest import ROOT

pytestmark = pytest.mark.check
CORES = [path for path in NOTEBOOKS if not is_deep(path)]
CORE = FOLDER / "08_small_data.ipynb"


@pytest.mark.parametrize("path", [*CORES, TEMPLATE], ids=lambda p: p.stem)
def test_a_core_says_the_same_in_both_languages(path):
    assert list(rules.speaks_chinese(read(path), path)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_terms_are_called_as_in_the_glossary(path):
    assert list(rules.glossary_names(read(path), path)) == []


def replaced(old: str, new: str):
    """A mistake in Chinese or English: other words in a notebook, once."""

    def plant(text: str) -> str:
        assert old in text, f"{old!r} is not there: nothing would be planted"
        return text.replace(old, new, 1)

    return plant


def swapped(text: str) -> str:
    """The last two Chinese points change places."""
    (*_, above, last) = re.findall(r"^- .*[\u4e00-\u9fff].*$", text, re.M)
    return text.replace(f"{above}\n{last}", f"{last}\n{above}")


PLANTED = {
    "digit": replaced("+0.13 (+0.07 至 +0.19)", "+0.13 (+0.07 至 +0.18)"),
    "digit in English": replaced("+0.13 (+0.07 to +0.19)", "+0.13 (+0.07 to +0.18)"),
    "sign": replaced("−0.04 (−0.10 至", "+0.12 (−0.23 至"),
    "hyphen": replaced("−0.04 (−0.10 至", "-0.12 (−0.23 至"),
    "order": replaced("+0.07 至 +0.19", "+0.19 至 +0.07"),
    "brackets": replaced("(+0.07 至 +0.19)", "（+0.07 至 +0.19）"),
    "lost number": replaced("25 个真实标签", "真实标签"),
    "one number more": replaced("再做数据协调", "再做数据协调（3 次）"),
    "number in words": replaced("十家诊所", "九家诊所"),
    "points swapped": swapped,
    "lost point": lambda text: re.sub(r"^- 加入其他设备.*\n", "", text, flags=re.M),
    "lost sentence": replaced("**没有一种数据增强的好处或坏处是确定无疑的。** ", ""),
    "code": replaced("（`busi`）", ""),
    "term": replaced("集成减去单个网络", "合并减去单个网络"),
    "foreign word": replaced("集中训练", "centralised 训练"),
    "no objectives": lambda text: rules.BLOCK.sub("", text, count=1),
    "no summary": lambda text: "".join(rules.BLOCK.sub("", text).rpartition("## Exercises")),
    "a block twice": lambda text: text.replace((b := rules.BLOCK.search(text)[0]), b + "\n\n" + b),
    "other language": replaced('lang="zh-CN"', 'lang="zh"'),
    "no name": replaced("中文：小结", "中文："),
}


@pytest.mark.parametrize("mistake", PLANTED.values(), ids=PLANTED)
def test_a_planted_difference_is_found(mistake):
    notebook = copy.deepcopy(read(CORE))
    parts = "\n@@@\n".join(cell.source for cell in notebook.cells)
    for cell, source in zip(notebook.cells, mistake(parts).split("\n@@@\n"), strict=True):
        cell.source = source
    assert list(rules.speaks_chinese(notebook, CORE))


def test_a_block_stands_below_its_english():
    notebook = copy.deepcopy(read(CORE))
    moved = rules.BLOCK.search(notebook.cells[0].source)[0]
    notebook.cells[0].source = moved + "\n\n" + notebook.cells[0].source.replace(moved, "")
    assert any("not below" in found for found in rules.speaks_chinese(notebook, CORE))


@pytest.mark.parametrize("number", rules.WANTED)
def test_the_blocks_of_single_chapters_are_wanted(number):
    path = path_of(number)
    for name in rules.WANTED[number]:
        notebook = copy.deepcopy(read(path))
        for cell in notebook.cells:
            cell.source = cell.source.replace(f"中文：{name}<", "中文：别的<")
        assert list(rules.speaks_chinese(notebook, path)), name


def test_a_chapter_that_waits_is_excused(monkeypatch):
    """And no deep dive needs Chinese. At present nothing waits."""
    notebook = copy.deepcopy(read(CORE))
    for cell in notebook.cells:
        cell.source = rules.BLOCK.sub("", cell.source)
    assert list(rules.speaks_chinese(notebook, CORE))
    assert not list(rules.speaks_chinese(notebook, CORE.with_stem("08_small_data_deep")))
    monkeypatch.setattr(rules, "WAITING", frozenset({"08"}))
    assert not list(rules.speaks_chinese(notebook, CORE))


# ---- glossary -----------------------------------------------------------------------------------


def test_the_glossary_is_complete_in_both_languages():
    assert list(rules.glossary_is_complete()) == []


ROW = '| <a id="odds"></a>odds | 比值 (bǐzhí) | p / (1 − p), not p. | p / (1 − p)，不是 p。 | 01 |'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" (bǐzhí)", ""),
        ("bǐzhí", "bǐzhíshù"),
        ("bǐzhí", "bǐ"),
        ("bǐzhí", "bizhi"),
        ("bǐzhí", "bǐxzhí"),
        ("p / (1 − p)，不是 p。", ""),
        (" p / (1 − p)，不是 p。 |", ""),
        ("不是 p。", "不是 p"),
        ("(1 − p)，", "(2 − p)，"),
        ("不是 p。", "不是 p 的三倍。"),
        ("不是 p。", "不是 ratio。"),
    ],
)
def test_the_glossary_rule_bites(old, new):
    assert old in ROW
    assert not list(rules.glossary_is_complete(ROW))
    assert list(rules.glossary_is_complete(ROW.replace(old, new)))


@pytest.mark.parametrize(
    ("name", "pinyin", "right"),
    [
        ("源任务", "yuán rènwu", True),
        ("构音障碍", "gòuyīn zhàng'ài", True),
        ("H 分数", "H fēnshù", True),
        ("学习率", "xuéxílǜ", True),
        ("源任务", "yuán rèn", False),
        ("H 分数", "fēnshù", False),
        ("模糊", "mohu", False),
    ],
)
def test_pinyin_has_a_syllable_for_each_character(name, pinyin, right):
    assert rules.reads(name, pinyin) is right


def test_another_name_than_the_glossarys_is_found():
    notebook = copy.deepcopy(read(CORE))
    for said in ("(比率)", "（比率）", "(比率; Bayes 1763)"):
        notebook.cells[0].source = f"The [odds](GLOSSARY.md#odds) {said}"
        assert list(rules.glossary_names(notebook, CORE))
    notebook.cells[0].source = "[几率](GLOSSARY.md#odds)"
    assert list(rules.glossary_names(notebook, CORE))
    notebook.cells[
        0
    ].source = "[比值](GLOSSARY.md#odds), [odds](GLOSSARY.md#odds) (比值; Bayes 1763)"
    assert not list(rules.glossary_names(notebook, CORE))


# ---- README -------------------------------------------------------------------------------------


def readmes() -> tuple[str, str]:
    """English and Chinese, without the line that links one to the other and rows that wait."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")]
    waits = lambda line: (m := re.match(r"\| \[(\w+) ", line)) and m[1] in rules.WAITING
    other = re.compile(r"\]\(README(\.zh-CN)?\.md\)")
    one, two = (
        "\n".join(x for x in t.split("\n") if not other.search(x) and not waits(x)) for t in texts
    )
    return one, two


def test_the_readmes_say_the_same():
    assert list(rules.differences(*readmes())) == []


@pytest.mark.parametrize(
    "mistake",
    [
        replaced("+0.118 (+0.081 至 +0.155)", "+0.118 (+0.081 至 +0.156)"),
        replaced("提高十二个百分点", "提高十个百分点"),
        replaced("0.913 和", "0.931 和"),
        replaced("make test-slow", "make slow"),
        replaced("py -3.11 -m venv", "py -3.12 -m venv"),
        replaced("(notebooks/GLOSSARY.md)", "(notebooks/00_start_here.ipynb)"),
        replaced("table: first, in Chinese", "table: first levels, in Chinese"),
        replaced("## 许可证", "许可证"),
        replaced("n_train=200", "n_train=100"),
        lambda text: re.sub(r"^\| \[04b .*\n", "", text, flags=re.M),
        lambda text: text.replace("15b 语音", "15x 语音"),
    ],
)
def test_a_difference_between_the_readmes_is_found(mistake):
    english, chinese = readmes()
    assert list(rules.differences(english, mistake(chinese)))


def test_each_readme_links_to_the_other_in_its_first_lines():
    for name, other in (("README.md", "README.zh-CN.md"), ("README.zh-CN.md", "README.md")):
        assert f"]({other})" in "\n".join((ROOT / name).read_text().split("\n")[:4])
