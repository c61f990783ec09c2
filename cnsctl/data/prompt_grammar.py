"""The prompt grammar: a text and the concepts that it names.

Owns parsing and rendering of prompts; must not know tokens, models or stores.

The complete rules:

- `<dog>` and `<dog:0.8>` name a concept anywhere in the text, also inside words. Between the angles are a letter or digit,
  then no space, `<` or `>`. An unknown name is an error, unless it is a token of the base model's own (`<cat-toy>`).
- Every other use of an angle is text: `a < b`, `<3`, `< dog >`, `<-`, `</b>`, `<|x|>`, `<a note: with spaces>`.
  In `<<dog>>` the outer angles are text.
- `@dog` and `@dog:0.8` mean the same where a word starts: at the beginning, after a space, an opening bracket or quotation
  mark, a comma, a semicolon or a slash. They need no quotes in a shell. They name the longest known concept that ends at a
  hyphen or at the end of the word: `@dog,`, `@dog's` and `@dog-shaped` name `dog` unless `dog-shaped` is known. If none is
  known, it is text, as in `a@dog`, `@Dog` and `@dogs`.
- A scale is a decimal number from -4 to 4. One concept has one scale per prompt. After `@dog:` a digit starts a scale;
  otherwise the colon is text (`@dog: a portrait`).
- A tab or a line break is a space, and a byte order mark at the beginning is dropped. Other control characters and halves
  of a surrogate pair are refused. The empty prompt is allowed here; `gen` refuses it.
- Files of other tools (`<lora:x:0.8>`) and options (`--n bad`) are refused, see `data.other_syntax`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING

from cnsctl.concept import Mention, Prompt
from cnsctl.data.other_syntax import refuse
from cnsctl.errors import ConceptNotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

MAX_SCALE = 4.0
"""A larger number is probably a typing error."""

_ARTICLE = re.compile(r"\b([Aa]) $")
_LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x85\u2028\u2029]")
_MARK = re.compile("[<@]")
_ANGLES = re.compile(r"<(?P<name>[^\W_][^\s<>:]*)(?::(?P<scale>[^<>]*))?>")
_AT = re.compile(r"""(?<![^\s(\[{"'“‘«,;/])@(?P<name>[a-z0-9][a-z0-9_-]{0,62})(?!\w)""")
_AT_MISSED = re.compile(_AT.pattern, re.IGNORECASE)
_AT_SCALE = re.compile(r":(?P<scale>[+-]?\.?[0-9][\w.]*)")
_OWN = re.compile(rf"{_ANGLES.pattern}(?!_[0-9])")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def parse(text: str, known: Collection[str], own_tokens: Callable[[], Collection[str]] = frozenset) -> Prompt:
    """Split a text at the concepts it names, by the rules above.

    Args:
        text: as the user wrote it.
        known: names of the concepts in the store.
        own_tokens: gives the tokens that were added to the base model's vocabulary, such as `<cat-toy>`; called if the
            text contains a name that is not known.

    Raises:
        ConceptNotFoundError: `<name>` is not one of them.
        UsageError: a scale is not a number, is too large, or differs between two mentions, or the text contains a
            character that is not allowed, or the syntax of another tool.
    """
    text = _LINE_BREAK.sub(" ", text.removeprefix("\ufeff"))
    if (bad := bad_character(text)) is not None:
        is_utf16 = text.count("\0") > 1
        raise UsageError(
            f"the prompt {text[:200]!r} contains {bad}",
            hint="save the file of prompts as UTF-8" if is_utf16 else "remove it: a prompt is one line of text",
        )
    refuse(text, known)
    text = text.replace("\t", " ")
    pieces: list[str | Mention] = []
    scales: dict[str, float] = {}
    done = 0
    for start, end, mention in _mentions(text, known, own_tokens):
        if scales.setdefault(mention.name, mention.scale) != mention.scale:
            raise UsageError(
                f"the prompt {text!r} gives <{mention.name}> two scales: {scales[mention.name]:g} and {mention.scale:g}",
                hint="use one scale per concept and prompt",
            )
        pieces += [text[done:start], mention]
        done = end
    pieces.append(text[done:])
    if any(_ANGLES.search(p) for p in pieces if isinstance(p, str)):
        own = own_tokens()
        pieces = [_every_vector(p, own) if isinstance(p, str) else p for p in pieces]
    return Prompt(text=text, pieces=tuple(p for p in pieces if p != ""))


def _every_vector(text: str, own_tokens: Collection[str]) -> str:
    """Write a token of several vectors in full: `<cat-toy> <cat-toy>_1`, as the stock pipeline does."""

    def full(m: re.Match[str]) -> str:
        parts = [m[0]]
        while f"{m[0]}_{len(parts)}" in own_tokens:
            parts.append(f"{m[0]}_{len(parts)}")
        return " ".join(parts)

    return _OWN.sub(full, text)


def missed(text: str, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield words with an @ that are text but similar to a name, each with the nearest name.

    They are probably typing errors.
    """
    from difflib import get_close_matches

    for found in _AT_MISSED.finditer(text):
        if _after_at(text, found.start(), known) is None:
            name = found["name"]
            if nearest := get_close_matches(name.lower(), sorted(known), n=1):
                yield name, nearest[0]


def bad_character(text: str) -> str | None:
    """Describe the first character that is not allowed in prompts and captions, or return None."""
    for at, char in enumerate(text, start=1):
        if char != "\t" and unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}:
            return f"the control character U+{ord(char):04X} at position {at}"
    return None


def render_class(prompt: Prompt, class_words: Mapping[str, str]) -> str:
    """Replace each concept with its class word, for the base model and for CLIP-T.

    An article before it becomes `an` if the class word starts with a vowel.
    """
    text = ""
    for piece in prompt.pieces:
        word = class_words[piece.name] if isinstance(piece, Mention) else piece
        needs_an = isinstance(piece, Mention) and word[:1].lower() in set("aeiou")
        text = (_ARTICLE.sub(r"\1n ", text) if needs_an else text) + word
    return text


def slug(prompt: Prompt) -> str:
    """Make a file name without suffix from a prompt: its words in lower case, joined by '-'; a concept is `_dog_`.

    If that leaves out more than case and spaces (punctuation, emoji, or more than 60 characters or 200 bytes), a hash
    follows, so that different prompts get different names. The result is not empty, and in Unicode's NFC.
    """
    parts = [_in_name(p) if isinstance(p, Mention) else unicodedata.normalize("NFC", p).lower() for p in prompt.pieces]
    letters, lost = list[str](), False
    for part, piece in zip(parts, prompt.pieces, strict=True):
        if isinstance(piece, Mention):
            letters.append(part)
            continue
        inside = False
        for char in unicodedata.normalize("NFC", part):
            kind = unicodedata.category(char)
            # a combining mark belongs to the previous letter; variation selectors are invisible
            inside = char.isalnum() or (inside and kind in ("Mn", "Mc") and not "\ufe00" <= char <= "\ufe0f")
            if inside:
                letters.append(char)
                continue
            lost = lost or kind[0] != "Z"
            if letters and letters[-1] != "-":
                letters.append("-")
    stem = unicodedata.normalize("NFC", "".join(letters).rstrip("-"))
    if lost or stem != _cut(stem):
        whole = " ".join("".join(parts).split())
        mark = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return f"{_cut(stem, len(mark) + 1) or 'image'}-{mark}"
    return stem or "image"


def _in_name(mention: Mention) -> str:
    return f"_{mention.name}_" if mention.scale == 1 else f"_{mention.name}+{mention.scale:g}_"


def _cut(stem: str, room: int = 0) -> str:
    """Shorten to 60 characters and 200 bytes minus `room`, so that a seed and `.png` fit."""
    whole = stem[: 60 - room].encode()[: 200 - room]
    return whole.decode(errors="ignore").rstrip("-")


def _mentions(
    text: str, known: Collection[str], own_tokens: Callable[[], Collection[str]]
) -> Iterator[tuple[int, int, Mention]]:
    """Yield where each mention starts and ends, from left to right."""
    at = 0
    while (mark := _MARK.search(text, at)) is not None:
        if mark[0] == "<":
            found = _in_angles(text, mark.start(), known, own_tokens)
        else:
            found = _after_at(text, mark.start(), known)
        if found is None:
            at = mark.end()
        else:
            at, mention = found
            yield mark.start(), at, mention


def _in_angles(
    text: str, start: int, known: Collection[str], own_tokens: Callable[[], Collection[str]]
) -> tuple[int, Mention] | None:
    if (m := _ANGLES.match(text, start)) is None:
        return None
    name, scale = m["name"], m["scale"]
    if name in known:
        return m.end(), Mention(name=name, scale=1.0 if scale is None else _scale(scale, m[0]))
    if scale is not None and re.search(r"\s", scale):
        return None  # `<a note: with spaces>` is text; with a known name it is a mistyped scale
    if m[0] in own_tokens():
        return None
    raise _unknown(name, known)


def _after_at(text: str, start: int, known: Collection[str]) -> tuple[int, Mention] | None:
    if (m := _AT.match(text, start)) is None:
        return None
    name = m["name"]
    while name not in known:
        name, hyphen, _ = name.rpartition("-")
        if not hyphen:
            return None
    end = m.start("name") + len(name)
    if (s := _AT_SCALE.match(text, end)) is None:
        return end, Mention(name=name)
    scale = s["scale"].rstrip(".")  # the full stop of a sentence
    return s.start("scale") + len(scale), Mention(name=name, scale=_scale(scale, f"@{name}:{scale}"))


def _scale(number: str, mention: str) -> float:
    scale = float(number) if _NUMBER.fullmatch(number) else float("nan")
    if not abs(scale) <= MAX_SCALE:  # true for nan
        raise UsageError(
            f"scale is out of range: {mention} (-{MAX_SCALE:g} to {MAX_SCALE:g})",
            hint=f"write it without spaces: {mention.partition(':')[0]}:0.8{'>' if mention[0] == '<' else ''}",
        )
    return scale + 0.0  # -0.0 becomes 0.0: they are the same scale and must print equally


def _unknown(name: str, known: Collection[str]) -> ConceptNotFoundError:
    from difflib import get_close_matches

    near = get_close_matches(name[:63].lower(), sorted(known), n=3)
    return ConceptNotFoundError(
        f"concept not found: {name[:80]!r}",
        reason="concept-missing" if known else "empty-store",
        near=[f"<{n}>" for n in near],
    )
