"""Text that a spreadsheet shows and does not execute."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # how a spreadsheet's formula begins


def safe_cell(value: object) -> str:
    """The value as text, behind a quote where a spreadsheet would take it for a formula."""
    text = str(value)
    executed = text.lstrip().startswith(FORMULA) or text.startswith(("\t", "\r"))
    return f"'{text}" if executed else text
