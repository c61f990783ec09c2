"""`concepts_list.json` and CustomConcept101's `dataset.json`: a list of concepts with their folders of images.

Owns this format; must not know which concepts a store has.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnsctl.data.names import near_name
from cnsctl.errors import ImageError

MAX_BYTES = 16 << 20

_PLACEHOLDER = re.compile(r"<(?:new|v|s|tok)?\d*>|<(?:tok|new|v\*|s\*)>", re.IGNORECASE)
"""Tokens that stand for any concept: `<new1>`, `<TOK>`, `<V1>`."""

_MEDIUM = re.compile(
    r"^(?:(?:an?|the|one)\s+)?(?:(?:close-up|cropped|good|bad|nice)\s+)*"
    r"(?:photo(?:graph)?|picture|image|painting|drawing|rendering|illustration)\s+of\s+",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:an?|the|one)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedConcept:
    """One entry of a list."""

    name: str
    """Of the concept, derived from the prompt's token or the folder."""
    folder: Path
    """With its images."""
    class_word: str | None
    """From the prompt of its class."""
    masks: Path | None
    """The folder of its masks, if the entry has one (`mask_dir`)."""


def read_concepts_list(path: Path) -> list[ListedConcept]:
    """Read a list of concepts. Folders are relative to the list's own folder, else to the working folder.

    Raises:
        ImageError: the file cannot be read, or an entry is not a concept with a folder of images.
    """
    entries = _entries(path)
    found: list[ListedConcept] = []
    taken: set[str] = set()
    for at, entry in enumerate(entries, start=1):
        folder = entry.get("instance_data_dir") if isinstance(entry, dict) else None
        if not isinstance(folder, str) or not folder.strip():
            what = "several concepts together" if isinstance(entry, list) else "an entry without 'instance_data_dir'"
            raise ImageError(
                f"'{path}' contains {what}: entry {at}",
                note="expected: a list of objects with instance_prompt, class_prompt and instance_data_dir",
                hint="give a list with one concept per entry",
            )
        name = _name(entry, Path(folder), at)
        unique = next(n for n in (name, *(f"{name}-{k}" for k in range(2, len(entries) + 2))) if n not in taken)
        taken.add(unique)
        masks = entry.get("mask_dir")
        found.append(
            ListedConcept(
                name=unique,
                folder=_placed(path, folder),
                class_word=class_word_of(entry),
                masks=_placed(path, masks) if isinstance(masks, str) and masks else None,
            )
        )
    return found


def class_word_of(entry: dict[str, Any]) -> str | None:
    """The class word in `class_prompt`: "a photo of a dog" and "dog" both give "dog".

    None if there is none, or if the prompt is the name of a file with captions.
    """
    prompt = entry.get("class_prompt")
    if not isinstance(prompt, str):
        return None
    words = _ARTICLE.sub("", _MEDIUM.sub("", " ".join(prompt.split()))).strip(" .,")
    usable = words and len(words) <= 60 and words.isprintable() and not re.search(r"[<>/\\]|\.\w{2,4}$", words)
    return words if usable else None


def listed_in(path: Path) -> list[dict[str, Any]]:
    """The entries of a list that have a folder; none if the file is missing, or is not such a list."""
    try:
        entries = _entries(path) if path.is_file() else []
    except (ImageError, OSError):
        return []
    return [e for e in entries if isinstance(e, dict) and isinstance(e.get("instance_data_dir"), str)]


def _entries(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"the list is too large: '{path}'", note=f"at most {MAX_BYTES >> 20} MB", hint="split it")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as err:
        raise ImageError(f"cannot read '{path}': {err.strerror}", hint="check its name and permissions") from err
    except (ValueError, RecursionError) as err:
        raise ImageError(f"cannot read '{path}': not JSON: {err}", hint="correct the file") from err
    if not isinstance(data, list) or not data:
        raise ImageError(f"'{path}' is not a list of concepts", hint="give a file such as concepts_list.json")
    return data


def _name(entry: dict[str, Any], folder: Path, at: int) -> str:
    """From a token such as `<cat-toy>` in the prompt, else from the folder's name."""
    prompt = entry.get("instance_prompt")
    tokens = re.findall(r"<[^<>\s]+>", prompt) if isinstance(prompt, str) else []
    own = [token for token in tokens if not _PLACEHOLDER.fullmatch(token)]
    base = re.sub(r"^\d{1,3}_(?=\D)", "", folder.name)  # kohya's number of repeats
    return next((name for text in (*own, base) if (name := near_name(text)) is not None), f"concept-{at}")


def _placed(path: Path, folder: str) -> Path:
    given = Path(folder).expanduser()
    beside = path.parent / given
    return beside if given.is_absolute() or beside.is_dir() or not given.is_dir() else given
