"""docs/conformance.md says what the dataplanes declare."""

from __future__ import annotations

import os
from pathlib import Path

from pylb.dataplane.features import LACKS, Feature, table

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
BEGIN, END = "<!-- features: begin -->\n", "<!-- features: end -->\n"


def test_the_page_has_the_table() -> None:
    """``PYLB_WRITE_DOCS=1`` writes it."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    if os.environ.get("PYLB_WRITE_DOCS"):
        PAGE.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
    else:
        assert old == table()


def test_every_feature_is_somebodys() -> None:
    for feature in Feature:
        assert any(feature not in lacking for lacking in LACKS.values())
