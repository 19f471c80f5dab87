"""Every notebook keeps the rules of rendering_rules.py; each rule is shown to bite."""

import copy

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from studies.evidence_shown import LINES
from tests.chapters import rendering_rules as rules
from tests.chapters.reading_rules import NOTEBOOKS, TEMPLATE, read
from tests.conftest import ROOT

pytestmark = pytest.mark.check
TEXTS = [p for folder in (".", "data", "notebooks") for p in sorted((ROOT / folder).glob("*.md"))]


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda r: r.__name__)
@pytest.mark.parametrize("path", [*NOTEBOOKS, TEMPLATE], ids=lambda p: p.stem)
def test_notebook_is_readable_elsewhere(path, rule):
    assert list(rule(read(path), path)) == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_text_is_readable_on_github(path):
    notebook = new_notebook(cells=[new_markdown_cell(path.read_text(encoding="utf-8"))])
    for rule in (rules.formulas, rules.folded_parts, rules.plain_tags):
        assert list(rule(notebook, path)) == []


def shown(**data):
    named = {key.replace("_", "/", 1): value for key, value in data.items()}
    return new_code_cell("x", outputs=[new_output("display_data", data=named)])


PLANTED = [
    (rules.formulas, "The $\\operatorname{logit} P$."),
    (rules.formulas, "- a point: $$x$$"),
    (rules.formulas, "  $$x$$"),
    (rules.formulas, "It costs 5 $ today."),
    (rules.formulas, "The $ x$ of it."),
    (rules.formulas, "The $x\n+ y$ of it."),
    (rules.formulas, "A 2$x$ and"),
    (rules.formulas, "the $n$th"),
    (rules.folded_parts, "<details><summary>Answer</summary>\n**No.**\n\n</details>"),
    (rules.folded_parts, "<details><summary>Answer</summary>\n\nNo."),
    (rules.folded_parts, "<details><summary>A</summary>\n\n## Next\n\n</details>"),
    (rules.folded_parts, "Here: <details><summary>A</summary>\n\nNo.\n\n</details>"),
    (rules.plain_tags, "<table><tr><td>1</td></tr></table>"),
    (rules.plain_tags, '<br style="clear:both">'),
    (rules.headings_in_outputs, shown(text_html="<h3>A title</h3>")),
    (rules.shown_without_a_kernel, shown(**{"application_vnd.jupyter.widget-view+json": {}})),
    (rules.colours_are_the_themes, shown(text_html='<p style="color: #bbb">pale</p>')),
    (rules.shown_without_a_kernel, shown(text_html="<script>1</script>")),
    (rules.words_in_figures, new_code_cell("axis.text(0, 0, 'x', color=plots.ORANGE)")),
    (rules.words_in_figures, new_code_cell("axis.legend(labelcolor='0.6')")),
    (rules.words_in_figures, new_code_cell("axis.text(0, 0, 'x', color=line.get_color())")),
]


@pytest.mark.parametrize(
    ("rule", "mistake"), PLANTED, ids=[f"{i}-{r.__name__}" for i, (r, _) in enumerate(PLANTED)]
)
def test_the_rule_bites(rule, mistake):
    notebook = copy.deepcopy(read(TEMPLATE))
    assert list(rule(notebook, TEMPLATE)) == []
    notebook.cells.append(new_markdown_cell(mistake) if isinstance(mistake, str) else mistake)
    assert list(rule(notebook, TEMPLATE))


GOOD = """\
The slope is $b$ in $\\mathrm{logit}\\,P = a + b z$ (not $a$), the $n$-th.

$$x = 1$$

<details lang="zh-CN"><summary>中文</summary>

设$x$为正，`$HOME` 不算。

</details>
"""


def test_what_is_drawn_everywhere_passes():
    notebook = copy.deepcopy(read(TEMPLATE))
    notebook.cells.append(new_markdown_cell(GOOD))
    notebook.cells.append(new_code_cell("axis.text(0, 0, 'x', color='w' if dark else 'k')"))
    assert [p for rule in rules.RULES for p in rule(notebook, TEMPLATE)] == []


def test_contrast_is_that_of_wcag():
    assert rules.contrast("white") == 1 and rules.contrast("black") == pytest.approx(21)
    assert rules.contrast("#767676") == pytest.approx(4.54, abs=0.005)  # the palest grey allowed
    assert rules.contrast("#777777") < rules.CONTRAST


def test_the_words_of_all_figures_stand_out():
    files = [*(ROOT / "medtl_utils").rglob("*.py"), *(ROOT / "studies").glob("*.py")]
    drawn = {f: f.read_text(encoding="utf-8") for f in files}
    found = [(f.name, what) for f, text in drawn.items() for what in rules.faint_words(text)]
    # its colours stand in a table
    assert [name for name, _ in found] == ["evidence_shown.py"], found
    assert all(rules.contrast(colour) >= rules.CONTRAST for _, colour, *_ in LINES.values())
