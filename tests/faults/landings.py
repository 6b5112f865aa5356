"""Where the faults of a test run landed, told at its end so that it stands in every log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

REPORTS: list[str] = []


def table(title: str, counts: Mapping[tuple[str, str], int]) -> str:
    """Rows by columns with their sums, for counts by (row, column)."""
    rows = sorted({row for row, _ in counts})
    columns = sorted({column for _, column in counts})
    by_row: Counter[str] = Counter()
    by_column: Counter[str] = Counter()
    for (row, column), count in counts.items():
        by_row[row] += count
        by_column[column] += count
    width = max(len(row) for row in [*rows, "all"])
    lines = [title, _line("", [*columns, "all"], columns, width)]
    lines += [_line(row, [*(counts.get((row, c), 0) for c in columns), by_row[row]], columns, width) for row in rows]
    lines.append(_line("all", [*(by_column[c] for c in columns), sum(counts.values())], columns, width))
    return "\n".join(lines)


def _line(name: str, cells: list[object], columns: list[str], width: int) -> str:
    widths = [max(6, len(column)) for column in columns] + [6]
    shown = ["·" if cell == 0 else str(cell) for cell in cells]
    return "  ".join([name.ljust(width), *(cell.rjust(each) for cell, each in zip(shown, widths, strict=True))])
