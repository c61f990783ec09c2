"""One concept, as lines for people.

Owns these words; must not know stores or models.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from cnsctl.cli.command_lines import add_line, gen_line
from cnsctl.cli.tables import counted, percent, plain, scores, size, weights

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cnsctl import results


def shown(r: results.ShowResult, *, store: Path | None, verbose: bool) -> Iterable[str]:
    """What it is, how good it is, how it was made and how to use it; with `verbose`, settings and files.

    Args:
        r: the concept.
        store: as given by the user.
        verbose: print everything.
    """
    c = r.concept
    made = "imported" if r.origin is not None else f"trained on {counted(c.images - c.held_out, 'image')}"
    damaged = "; its delta is damaged: run cnsctl check" if c.damaged else ""
    yield f"<{c.name}>  {c.class_word or 'no class word'}, {made} on {day(c.created)}, {size(c.bytes)}{damaged}"
    if r.origin is not None:
        yield from _origin(r.origin, c.neurons)
    yield f"  after training: {scores(c.scores)}"
    if c.scores.error_removed is not None:
        yield f"  verdict: {'none, the base model is not calibrated' if c.verdict is None else c.verdict.words}"
    for other, shared in sorted((r.overlaps or {}).items()):
        yield f"  shares {'?' if shared is None else f'{shared:,}'} neurons with <{other}>"
    if r.arguments is not None:
        yield f"  made by: {add_line(c.name, r.arguments, store)}"
    yield f"  use it: {gen_line(f'<{c.name}> on a beach', store)}"
    if verbose:
        yield from _everything(r)


def day(created: str) -> str:
    """`27 November 2026, 18:44`, in the time zone of this machine; a text that is not a time unchanged."""
    try:
        when = datetime.fromisoformat(created).astimezone()
    except ValueError:
        return created
    return f"{when.day} {when:%B %Y, %H:%M}"


def _everything(r: results.ShowResult) -> Iterable[str]:
    c = r.concept
    yield f"  {weights(c)}; {counted(c.tokens, 'token embedding')}"
    recipe = {key: value for key, value in r.recipe.items() if not key.startswith(("origin_", "import_"))}
    if recipe:
        yield f"  recipe: {', '.join(f'{key} {plain(value)}' for key, value in sorted(recipe.items()))}"
    yield f"  delta: {r.delta}"
    if r.preview is not None:
        yield f"  preview: {r.preview}"
    for i, path in enumerate(r.references):
        yield f"  {'held out' if i >= c.images - c.held_out else 'image'}: {path}"


def _origin(o: results.Origin, neurons: int) -> Iterable[str]:
    files = " and ".join(f"{file.name} (SHA-256 {file.sha256[:12]})" for file in o.files) or "a file"
    yield f"  from: {files}, format {o.format}"
    if neurons and not o.scored:
        error = "" if o.error is None else f"; its keys and values differ from the file's by {percent(o.error, 1)}"
        yield f"  its neurons were not selected by scoring: they are the file's largest changes{error}"
    if o.lost is not None:
        yield f"  left out of the file: {percent(o.lost, 0)} of the norm of its changes"
