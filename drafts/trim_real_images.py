"""Optional, only before transplant, shortcut and real_or_simulated have kept cells.

studies/real_images.py without what is unused since the old evidence went (official, groups_of) and
without by_group, which medtl_utils.metrics.units made redundant. Run in /work/switch.
"""

from pathlib import Path


def change(name, *pairs):
    path = Path(name)
    text = path.read_text()
    for old, new in pairs:
        assert text.count(old) == 1, (name, old)
        text = text.replace(old, new)
    path.write_text(text)


def cut(name, start, end):
    path = Path(name)
    text = path.read_text()
    a = text.index(start)
    path.write_text(text[:a] + text[text.index(end, a) :])


R = "studies/real_images.py"
cut(R, "def groups_of(", "@functools.cache\ndef pool(")
cut(R, "def by_group(", "def enlarged(")
change(
    R,
    ("\n\nAlso `official`: BreastMNIST's official training and validation images.\n", ""),
    ("grouping import draw_labelled, near_copies", "grouping import draw_labelled"),
)
change("studies/transplant.py", ("real_images.by_group(scored_split(data))", "scored_split(data)"))
change(
    "studies/shortcut.py",
    ('real_images.by_group(test_images(key[0])["plain"])', 'test_images(key[0])["plain"]'),
)
T = "tests/studies/test_real_images.py"
cut(T, "def test_known_patients_stay_the_units", "def pairs_up(")
change(
    T,
    ("thrice(real_images.by_group)", "thrice(lambda split: split)"),
    ("from tests.conftest import make_split\n", ""),
)
S = "tests/studies/test_studies.py"
text = Path(S).read_text()
text = text[: text.index("# ---- near-copies")].rstrip() + "\n"
text = text.replace("from studies.real_images import groups_of\n", "").replace("from tests.conftest import make_split\n", "")
text = text.replace(", groups of near-copies.", ".")
Path(S).write_text(text)
print("done; then: ruff format, ruff check studies tests/studies")
