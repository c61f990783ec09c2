"""Folders of images as the tools of the field leave them: which files are images, their captions, and the class word.

`LAYOUTS` lists the readers, one per layout. Each looks at the files that lie there and returns what it understands.

Owns these layouts; must not know pixels, models or stores.
"""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.data.concept_lists import class_word_of, listed_in
from cnsctl.data.image_files import SUFFIXES, by_suffix, counted, has_images, listed, refuse, sorted_out, unreadable
from cnsctl.data.prompt_grammar import bad_character
from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MAX_CAPTION = 1000
"""Characters of a caption that are read; text encoders use far fewer."""

CAPTIONS = (".txt", ".caption")
"""Suffixes of files with the caption of one image, in any case."""

_JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
"""Files that systems and libraries write into every folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The files of a folder, sorted, without hidden ones."""

    root: Path
    images: Sequence[Path]
    others: Sequence[Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reader understands."""

    captions: Mapping[Path, str] = field(default_factory=dict)
    """By image."""
    used: frozenset[Path] = frozenset()
    """Files that are explained by the layout."""
    class_word: str | None = None
    source: str = ""
    """Where the class word comes from."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A folder, understood."""

    images: tuple[Path, ...]
    captions: Mapping[Path, str]
    class_word: str | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def in_folder(folder: Path, *, recursive: bool) -> Found:
    """Find the images of a folder.

    Raises:
        ImageError: the folder cannot be read, or does not contain an image.
    """
    files, folders = listed(folder, recursive=recursive)
    images, unread, others = sorted_out(files)
    direct = any(path.parent == folder for path in images)
    parts = [] if direct else [f for f in folders if has_images(f)]
    if parts and all(_KOHYA.fullmatch(f.name) for f in parts):
        return together([in_folder(part, recursive=recursive) for part in parts])
    if not images:
        refuse(folder, folders, unread, others, recursive=recursive)
    found = _understood(Contents(root=folder, images=images, others=others))
    return Found(
        images=tuple(images),
        captions=found.captions,
        class_word=found.class_word,
        source=found.source,
        notes=(*found.notes, *_left_out(folder, others, images, found.used), *_not_searched(folders, recursive)),
        warnings=unreadable(unread),
    )


def beside(files: Sequence[Path]) -> Found:
    """The captions and the class word of image files that were named one by one."""
    found = []
    for folder in dict.fromkeys(path.parent for path in files):
        own = [path for path in files if path.parent == folder]
        try:
            seen, _ = listed(folder, recursive=False)
        except ImageError:
            seen = []
        others = [path for path in seen if path not in own and path.suffix.lower() not in SUFFIXES]
        reading = _understood(Contents(root=folder, images=own, others=others))
        found.append(
            Found(images=tuple(own), captions=reading.captions, class_word=reading.class_word, source=reading.source)
        )
    return together(found)


def together(found: Sequence[Found]) -> Found:
    """Several folders, or files beside each other, as one. If their class words differ, there is none."""
    words = {f.class_word: f.source for f in found}
    word = next(iter(words)) if len(words) == 1 else None
    return Found(
        images=tuple(path for f in found for path in f.images),
        captions={path: text for f in found for path, text in f.captions.items()},
        class_word=word,
        source="" if word is None else words[word],
        notes=tuple(dict.fromkeys(note for f in found for note in f.notes)),
        warnings=tuple(dict.fromkeys(warning for f in found for warning in f.warnings)),
    )


def _left_out(folder: Path, others: Sequence[Path], images: Sequence[Path], used: frozenset[Path]) -> tuple[str, ...]:
    """Files that are neither images nor explained by one, counted by suffix; captions of no image by name."""
    rest = [path for path in others if path not in used and path.name.lower() not in _JUNK]
    captions = [path for path in rest if path.suffix.lower() in CAPTIONS and path.parent in {i.parent for i in images}]
    notes = []
    if captions:
        named = ", ".join(path.name for path in captions[:3]) + (", …" if len(captions) > 3 else "")
        notes.append(f"{counted(len(captions), 'text file')} in '{folder.name}' without an image: {named}")
    if rest := [path for path in rest if path not in captions]:
        notes.append(f"left out in '{folder.name}':{by_suffix(rest)[1:]}")
    return tuple(notes)


def _not_searched(folders: Sequence[Path], recursive: bool) -> tuple[str, ...]:
    """Subfolders that look as if they belonged to the images."""
    found = [f for f in folders if f.suffix.lower() in SUFFIXES or not (recursive or f.name == "__MACOSX")]
    found = [f for f in found if f.suffix.lower() in SUFFIXES or has_images(f)]
    if not found:
        return ()
    return (f"not searched: {', '.join(repr(f.name) for f in found[:3])}{', …' if len(found) > 3 else ''}",)


def _understood(contents: Contents) -> Reading:
    """What all readers understand; of captions and class words, those of the first reader that has one."""
    readings = [read(contents) for read in LAYOUTS]
    captions = {path: text for reading in reversed(readings) for path, text in reading.captions.items()}
    classed = next((reading for reading in readings if reading.class_word is not None), Reading())
    return Reading(
        captions=captions,
        used=frozenset().union(*(reading.used for reading in readings)),
        class_word=classed.class_word,
        source=classed.source,
        notes=tuple(note for reading in readings for note in reading.notes),
    )


def _caption_files(contents: Contents) -> Reading:
    """A text file beside each image: `a.txt`, `a.caption`, `a.jpg.txt`, in any case."""
    by_name = {str(path).lower(): path for path in contents.others if path.suffix.lower() in CAPTIONS}
    captions, used = {}, set()
    for image in contents.images:
        names = [f"{start}{suffix}".lower() for start in (image.with_suffix(""), image) for suffix in CAPTIONS]
        found = [by_name[name] for name in names if name in by_name]
        used.update(found)
        for path in found[:1]:
            if (text := _one_line(_text(path), f"'{path}'")) is not None:
                captions[image] = text
    return Reading(captions=captions, used=frozenset(used))


def _metadata_lines(contents: Contents) -> Reading:
    """`metadata.jsonl` or `metadata.csv` of an image folder of the datasets library: a line per image."""
    by_path = {os.path.normpath(path): path for path in contents.images}
    captions, used, notes = {}, set(), []
    for file in contents.others:
        if file.name not in ("metadata.jsonl", "metadata.csv"):
            continue
        used.add(file)
        missing = 0
        for at, entry in _entries(file, _text(file, limit=None)):
            name, text = _metadata(entry, f"line {at} of '{file}'")
            image = by_path.get(os.path.normpath(file.parent / name))
            missing += image is None
            if image is not None and text is not None:
                captions[image] = text
        if missing:
            notes.append(f"{file.name}: {counted(missing, 'line')} for other files")
    return Reading(captions=captions, used=frozenset(used), notes=tuple(notes))


def _entries(file: Path, text: str) -> Iterator[tuple[int, object]]:
    """The lines that are not empty, with their numbers: objects of JSON as text, rows of CSV as they are."""
    if file.suffix == ".csv":
        yield from enumerate(csv.DictReader(text.splitlines()), start=2)
        return
    yield from ((at, line) for at, line in enumerate(text.splitlines(), start=1) if line.strip())


def _metadata(line: Any, where: str) -> tuple[str, str | None]:
    """The file and the caption of an entry."""
    try:
        entry = json.loads(line) if isinstance(line, str) else line
        name = str(entry["file_name"])
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise ImageError(
            f"cannot read {where}", note='expected: {"file_name": "a.png", "text": "a caption"}', hint="correct it"
        ) from err
    text = next((entry[key] for key in ("text", "caption", "prompt") if isinstance(entry.get(key), str)), "")
    return name, _one_line(text, where)


_KOHYA = re.compile(r"(?P<repeats>\d{1,3})_(?P<words>\S.*)")


def _repeats_and_class(contents: Contents) -> Reading:
    """A folder named `10_token class`, as kohya's scripts expect it."""
    if (named := _KOHYA.fullmatch(contents.root.resolve().name)) is None:
        return Reading()
    _token, _, word = named["words"].replace("_", " ").partition(" ")
    note = () if named["repeats"] == "1" else (f"{named['repeats']} repeats are not needed: all images count equally",)
    return Reading(class_word=word.strip() or None, source=f"the folder {named[0]!r}", notes=note)


def _dreambooth(contents: Contents) -> Reading:
    """A subject of the DreamBooth data set: its class is in `prompts_and_classes.txt` beside the folder."""
    root = contents.root.resolve()
    for folder in (root.parent, root):
        file = folder / "prompts_and_classes.txt"
        if not file.is_file():
            continue
        used = frozenset({file, folder / "references_and_licenses.txt"})
        for line in _lines(file):
            subject, comma, word = line.strip().partition(",")
            if comma and subject.strip() == root.name and re.fullmatch(r"[\w -]+", word.strip()):
                return Reading(class_word=word.strip(), source=f"'{file.name}'", used=used)
        return Reading(used=used)
    return Reading()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as err:
        raise ImageError(f"cannot read '{file}': {err.strerror}", hint="check its permissions and its disk") from err


_LISTS = ("dataset.json", "concepts_list.json", "concept_list.json")


def _listed_concept(contents: Contents) -> Reading:
    """A folder that a list of concepts near it names, as in CustomConcept101: the class is in `class_prompt`."""
    root = contents.root.resolve()
    used = frozenset(path for path in contents.others if path.name in _LISTS)
    for folder in (root, root.parent, root.parent.parent):
        for name in _LISTS:
            for entry in listed_in(folder / name):
                if Path(entry["instance_data_dir"]).name == root.name and (word := class_word_of(entry)) is not None:
                    return Reading(class_word=word, source=f"'{name}'", used=used)
    return Reading(used=used)


LAYOUTS: tuple[Callable[[Contents], Reading], ...] = (
    _caption_files,
    _metadata_lines,
    _repeats_and_class,
    _dreambooth,
    _listed_concept,
)
"""The readers of layouts, the most specific source of captions and class words first."""


_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the byte order mark at the beginning of a file, the longest first."""


def _text(path: Path, limit: int | None = 64 * MAX_CAPTION) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(-1 if limit is None else limit)
        encoding = next((e for mark, e in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
        return codecs.getincrementaldecoder(encoding)().decode(content, final=limit is None or len(content) < limit)
    except UnicodeError as err:
        raise ImageError(f"cannot read the caption '{path}': not UTF-8", hint="save it as UTF-8") from err
    except OSError as err:
        raise ImageError(f"cannot read the caption '{path}': {err.strerror}", hint="check its permissions") from err


def _one_line(text: str, where: str) -> str | None:
    """A caption: its lines joined by spaces; None if it is empty."""
    joined = " ".join(line.strip() for line in text.splitlines() if line.strip())[:MAX_CAPTION].strip()
    if (bad := bad_character(joined)) is not None:
        raise ImageError(f"the caption {where} contains {bad}", hint="remove it: a caption is text")
    return joined.replace("\t", " ") or None
