"""Findings as text: tables in Markdown, verdicts."""

import re
from collections.abc import Mapping, Sequence


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of text, in which "|" may stand, as a table in Markdown; columns with numbers are on the right."""
    names = list(rows[0])
    numeric = [any(re.match(r"[+-]?\d", row[name]) for row in rows) for name in names]
    rules = ["---:" if right else "---" for right in numeric]
    rules[0] = "---"
    cells = [[row[name].replace("|", r"\|") for name in names] for row in rows]
    lines = [names, rules, *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def parted(scheme: str) -> tuple[str, str]:
    """Return the name of a scheme, setup or control without its ε, and that as text; "" if it has none."""
    found = re.fullmatch(r"([^(,]+)\(([\d.e-]+)\)", scheme)
    return (found[1], found[2]) if found else (scheme, "")


def verdict(finding: str, margin: float) -> str:
    """Return in a line whether a finding holds in this run: whether its margin is positive."""
    return f"{finding}: {'holds' if margin > 0 else 'does not hold here'}, margin {margin:.3g}"
