"""Prompts as other tools write them: what this prompt grammar does not have, and what to write instead.

Owns the patterns of other tools; must not know what a prompt becomes.

Some of it is refused, because the rest of the prompt would not be what its author meant: files (`<lora:x:0.8>`), and
options of a command inside a prompt (`--n bad --w 128`). The rest is used as words, and each kind is explained once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

FILES = ("lora", "lyco", "locon", "loha", "hypernet", "embedding", "emb")
"""What other tools write first in `<lora:name:0.8>`."""

OPTIONS: Mapping[str, str | None] = {
    "n": "negative_prompt", "negative": "negative_prompt", "neg": "negative_prompt",
    "negative_prompt": "negative_prompt", "negative-prompt": "negative_prompt", "no": "negative_prompt",
    "w": "width", "width": "width", "h": "height", "height": "height", "size": "size", "d": "seed", "seed": "seed",
    "s": "steps", "steps": "steps", "l": "guidance_scale", "cfg_scale": "guidance_scale", "cfg": "guidance_scale",
    "guidance_scale": "guidance_scale", "guidance-scale": "guidance_scale", "ss": "sampler", "sampler": "sampler",
    "sampler_name": "sampler", "batch_size": "batch_size", "n_iter": "count", "prompt": None, "ar": "size", "v": None,
    "niji": None, "stylize": None, "chaos": None, "iw": None, "tile": None, "lora": None, "model": None,
}  # fmt: skip
"""Options that scripts and services read from prompts, and the setting of the same meaning."""

_FILE = re.compile(rf"<(?P<kind>{'|'.join(FILES)}):(?P<name>[^<>:]+)(?::(?P<rest>[^<>]*))?>", re.IGNORECASE)
_OPTION = re.compile(r"(?<!\S)--(?P<name>[A-Za-z][\w-]*)(?=[\s=]|$)")
_SHORT = re.compile(r"(?<!\S)-(?P<name>[WHsCSn])\s?\d+(?:\.\d+)?(?!\S)")
_SHORTS = {"W": "width", "H": "height", "s": "steps", "C": "guidance_scale", "S": "seed", "n": "count"}
"""Options of one letter, as in `a cat -s50 -W512`."""

_COPIED = re.compile(r"(?<!\S)(?P<name>Negative prompt:(?=\s)|Steps: \d+, [A-Z]\w+)")
"""Settings that programs write below a prompt, into an image; users copy all of it."""

_NUMBER = r"[+-]?(?:\d(?:\.\d*)?|\.\d+)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A part of a prompt in the syntax of another tool, which is used as words here."""

    kind: str
    """Names the syntax, so that each is explained once."""
    text: str
    """The part."""
    why: str
    """What it would mean elsewhere, and what to write here, in words."""


def refuse(text: str, known: Collection[str]) -> None:
    """Refuse what must not become words.

    Raises:
        UsageError: the prompt contains a file of another tool, or an option.
    """
    if (m := _FILE.search(text)) is not None and not _is_mention(m, known):
        name, scale = m["name"].strip(), (m["rest"] or "").split(":")[0].strip()
        mention = f"<{name}:{scale}>" if scale else f"<{name}>"
        raise UsageError(
            f"{m[0]} is the syntax of another tool",
            note="prompts name concepts of the store, not files",
            reason="file-in-prompt",
            mention=mention if name in known else None,
        )
    option = None
    if (m := _OPTION.search(text)) is not None and (name := m["name"].lower()) in OPTIONS:
        option = OPTIONS[name]
    elif (m := _SHORT.search(text)) is not None:
        option = _SHORTS[m["name"]]
    elif (m := _COPIED.search(text)) is not None:
        option = "negative_prompt" if m[0].startswith("N") else "steps"
    else:
        return
    raise UsageError(
        f"the prompt contains an option: {m[0]}",
        note="all of a prompt is text; a setting holds for the whole call",
        reason="option-in-prompt",
        name=option,
    )


def found(text: str, known: Collection[str]) -> Iterator[Found]:
    """Yield parts in the syntax of other tools; of a kind perhaps several."""
    if (m := _ESCAPED.search(text)) is not None:
        yield Found(kind="escape", text=m[0], why="brackets need no backslash here")
        text = _ESCAPED.sub(" ", text)
    shown = False
    for kind, pattern, why in _SYNTAX:
        m = pattern.search(text)
        if m is None or (kind == "and" and text == text.upper()) or (kind == "brackets" and shown):
            continue
        shown = True
        name = m["inside"].strip(" <>@") if "inside" in pattern.groupindex else ""
        scale = f":{m['scale'].lstrip('+')}" if "scale" in pattern.groupindex else ""
        yield Found(kind=kind, text=m[0].strip(), why=f"write <{name}{scale}>" if name in known else why)


def misbracketed(text: str, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield concepts whose angle brackets are not as they must be, each with what to write: `<dog`, `< dog >`, `dog>`.

    Args:
        text: a part of a prompt without mentions.
        known: names of the concepts.
    """
    for m in _MAYBE_MENTION.finditer(text):
        is_bracketed = m["open"] or (m["close"] and not m["close"][0].isspace())  # `a dog > a cat` is a comparison
        if is_bracketed and (name := m["name"].lower()) in known:
            yield m[0].strip(), f"<{name}:{m['scale']}>" if m["scale"] else f"<{name}>"


def unmarked(text: str, known: Collection[str]) -> Iterator[str]:
    """Yield concepts whose names are in a text as plain words: `top-hat`, also written as two words."""
    words = re.findall(r"[a-z0-9_-]+", text.lower())
    for first in range(len(words)):
        for last in range(first + 1, min(first + _LONGEST, len(words)) + 1):
            name = "-".join(words[first:last])
            if name in known:
                yield name


_LONGEST = 4
"""Words of a name that is looked for."""

_OPEN, _CLOSE = "(?:&lt;|[<\uff1c\u2039\u00ab\u3008])", "(?:&gt;|[>\uff1e\u203a\u00bb\u3009])"
"""Angle brackets, and what input methods, quotation marks and web pages make of them."""

_MAYBE_MENTION = re.compile(
    rf"(?P<open>{_OPEN}\s*@?)?(?<![\w-])(?P<name>[a-z0-9][a-z0-9_-]{{0,62}})(?![\w-])"
    rf"(?:\s*[:\uff1a]\s*(?P<scale>[+-]?(?:\d+(?:\.\d*)?|\.\d+)))?(?P<close>\s*{_CLOSE})?",
    re.IGNORECASE,
)

_ESCAPED = re.compile(r"\\[()\[\]{}]")

_BRACKETS = "brackets do not weight words here"

_WEIGHTS = "cnsctl does not weight words; <NAME:0.8> scales a concept"

_SYNTAX: Sequence[tuple[str, re.Pattern[str], str]] = [
    (
        "weight",
        re.compile(rf"\((?=[^()]*[^\W\d_])(?P<inside>[^()]+):\s*(?P<scale>{_NUMBER})\s*\)"),
        _WEIGHTS,
    ),
    ("weight", re.compile(r"\(\([^()]+\)\)|\{\{[^{}]+\}\}|\([^()]+\)\d\.\d+"), _WEIGHTS),
    ("weight", re.compile(r"\[(?=[^\[\]]*[^\W\d_])[^\[\]|:]+\]"), _WEIGHTS),
    ("weight", re.compile(r"(?<!\w)[^\W\d_]{2,}(?:\++|--+)(?![\w+-])|\)(?:\++|--+)(?!\w)"), _WEIGHTS),
    ("blend", re.compile(r"\)\s*\.(?:and|blend)\(|\w+\.swap\("), "prompts are not combined; write one prompt for each"),
    ("alternation", re.compile(r"\[[^\[\]|]*\|[^\[\]]*\]"), "words cannot alternate between steps"),
    ("editing", re.compile(rf"\[[^\[\]|]*:\s*(?:{_NUMBER}|\d+)\s*\]"), "a prompt cannot change between steps"),
    (
        "choice",
        re.compile(r"\{[^{}|]*\|[^{}]*\}|\$\{\w+=[^{}]*\}"),
        "alternatives are not chosen from; write one prompt for each",
    ),
    ("break", re.compile(r"(?<!\w)BREAK(?!\w)"), "a prompt is one text and is not split"),
    ("and", re.compile(r"(?<=\s)AND(?=\s)"), "prompts are not combined; write 'and' in small letters"),
    (
        "embedding",
        re.compile(r"(?<!\w)embedding:(?P<inside>[\w.-]+)", re.IGNORECASE),
        "embedding files are not read; <NAME> names a concept of the store",
    ),
    ("wildcard", re.compile(r"(?<!\w)__\w[\w/*-]*?__(?!\w)"), "wildcards are not replaced"),
    ("brackets", re.compile(r"(?<!\()\((?=[^()]*[^\W\d_])[^()]+\)|(?<![{$])\{(?=[^{}]*[^\W\d_])[^{}|]+\}"), _BRACKETS),
]
"""The kind, how it is written, and what to do instead."""


def _is_mention(m: re.Match[str], known: Collection[str]) -> bool:
    """Whether a concept is called `lora`, and this is its scale."""
    return m["kind"] in known and m["rest"] is None and re.fullmatch(_NUMBER, m["name"].strip()) is not None
