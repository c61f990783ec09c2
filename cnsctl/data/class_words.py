"""Names of concepts that are their own class word, because they are common nouns.

A tokenizer cannot decide this: in the vocabulary of CLIP, `luna` and `rex` are single tokens, and `labradoodle` is not.

Owns the list; must not know base models.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_suffix(".txt")

_MODIFIERS = "adjectives"


def uncommon_word(words: str) -> str | None:
    """The first word that keeps a name from being its own class word; None if the name can be one.

    It can be one if it is in the list, or if it ends with a noun of the list and each word before it is in the list.
    """
    nouns, modifiers = _lists()
    if words in nouns:
        return None
    *before, last = words.split() or [""]
    unknown = [word for word in before if word not in modifiers and not _is_noun(word, nouns)]
    return next(iter([*unknown, *([] if _is_noun(last, nouns) else [last])]), None)


def near_noun(words: str) -> str | None:
    """The common noun that is most similar to a word that is not one; None if none is."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(words[:80].lower(), sorted(_lists()[0]), n=1, cutoff=0.75)), None)


def _is_noun(word: str, nouns: frozenset[str]) -> bool:
    return word in nouns or (word.endswith("s") and word[:-1] in nouns)  # a plural


@cache
def _lists() -> tuple[frozenset[str], frozenset[str]]:
    """Nouns, and words that may precede one."""
    groups = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            group, _, words = line.partition(": ")
            groups[group] = frozenset(word.replace("-", " ") for word in words.split())
    return frozenset[str]().union(*(words for group, words in groups.items() if group != _MODIFIERS)), groups[
        _MODIFIERS
    ]
