"""What can go wrong in the workshop, in the words of its user.

Owns the one exception that `python -m pocket` prints; must not know where it is raised.
"""

from __future__ import annotations


class PocketError(Exception):
    """A failure told in three parts: what failed, with which value, and what to do next.

    Args:
        what: one sentence with the offending value in it, no trailing full stop.
        hint: what the user can do now, or None when nothing can be advised.
    """

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what if hint is None else f"{what} — {hint}")
        self.what = what
        self.hint = hint
