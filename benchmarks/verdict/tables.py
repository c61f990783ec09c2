"""The runs as a table in Markdown, with their verdicts.

Owns the columns; must not know where the numbers come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.verdict.ranges import scores_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.verdict.ranges import Row
    from cnsctl.results import Verdict

KINDS = ("good", "near", "rate", "mixed", "word", "photograph")
HEAD = (
    "run", "class word", "kind", "denoising error", "with class word", "CLIP-I of the images", "error removed", "CLIP-I",
    "CLIP-T", "verdict",
)  # fmt: skip


def table(rows: Sequence[Row], verdicts: Mapping[str, Verdict | None]) -> Iterator[str]:
    """The lines, by kind and then in the order of the runs."""
    yield f"| {' | '.join(HEAD)} |"
    yield f"| {' | '.join(['---'] * 3 + ['---:'] * 6 + ['---'])} |"
    for row in sorted(rows, key=lambda row: KINDS.index(row["kind"])):
        s, found = scores_of(row), verdicts[row["case"]]
        cells = [
            row["case"], row["word"], row["kind"], f"{s.denoising_error:.2f}",
            f"× {(s.class_word_error or 0) / (s.denoising_error or 1):.2f}", f"{s.clip_i_real:.2f}",
            f"{s.error_removed:.1f} %", f"{s.clip_i:.2f}", f"{s.clip_t:.2f}", "–" if found is None else _short(found),
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _short(verdict: Verdict) -> str:
    """The grade, and the first words of each reason."""
    return verdict.grade + "".join(f"; {reason.partition(':')[0]}" for reason in verdict.reasons)
