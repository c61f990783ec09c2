"""Where images are written: predictable names, and an existing file is kept unless it may be overwritten.

`-o FILE.png` with one image is that file, with several `FILE-SEED.png` (from the second prompt on `FILE-2-SEED.png`,
`FILE-3-SEED.png` …). `-o FOLDER`, or no -o, gives `FOLDER/PROMPT-SEED.png`. A name that the same call has used already,
or that another process took while the image was generated, gets `-2`, `-3` …

Owns names; must not know models.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cnsctl.data.prompt_grammar import slug
from cnsctl.errors import DiskError, NotDurableError, UsageError
from cnsctl.store import remove_abandoned, write_atomic, write_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cnsctl.concept import Prompt

STDOUT = Path("-")

_FOREIGN = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jxl", ".ppm", ".svg", ".pdf"}
"""Suffixes of other image formats. Any other suffix is part of a folder's name, such as `sd1.5`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One image to generate, and its place."""

    prompt: Prompt
    seed: int
    path: str
    """Its file; `-` for stdout, empty if it is not saved."""


class Outputs(Protocol):
    """Gives each image a place, and puts it there."""

    def plan(self, prompt: Prompt, seeds: Sequence[int]) -> tuple[Planned, ...]:
        """Places for the images of a prompt.

        Raises:
            UsageError: a file exists already and must not be overwritten.
        """

    def keep(self, place: Planned, png: bytes) -> str:
        """Put one image in its place and return where it is.

        Raises:
            UsageError: its file exists already.
            DiskError: the image cannot be written.
        """


def outputs(output: Path | None, *, many: bool, force: bool, save: bool) -> Outputs:
    """The places of a call's images.

    Args:
        output: a file, a folder, or `-` for stdout; by default the current folder.
        many: more than one image will, or may, be generated.
        force: overwrite existing files.
        save: write files; otherwise the images are only events.

    Raises:
        UsageError: there cannot be images at this place.
        DiskError: write permission is missing.
    """
    if not save:
        return _Unsaved("")
    if output == STDOUT:
        if many:
            raise UsageError("cannot write several images to stdout", reason="many-to-stdout")
        return _Unsaved(str(STDOUT))
    return _Files(output or Path(), many=many, force=force)


class _Unsaved:
    """Images without a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def plan(self, prompt: Prompt, seeds: Sequence[int]) -> tuple[Planned, ...]:
        return tuple(Planned(prompt=prompt, seed=seed, path=self.path) for seed in seeds)

    def keep(self, place: Planned, _png: bytes) -> str:
        return place.path


class _Files:
    """Gives each file name once, and remembers those that this call has used."""

    def __init__(self, output: Path, *, many: bool, force: bool) -> None:
        suffix = "" if output.is_dir() else output.suffix.lower()
        if suffix in _FOREIGN:
            raise UsageError(
                f"unsupported image format: {output.suffix}",
                note="images are PNG files",
                reason="image-format",
                path=output.with_suffix(".png"),
            )
        self.file = output if suffix == ".png" else None
        self.folder = output if self.file is None else output.parent
        self.many, self.force = many, force
        self.taken: set[str] = set()
        self.n_prompts = 0
        check_folder(self.folder)
        remove_abandoned(self.folder)

    def plan(self, prompt: Prompt, seeds: Sequence[int]) -> tuple[Planned, ...]:
        self.n_prompts += 1
        return tuple(Planned(prompt=prompt, seed=seed, path=str(self._place(prompt, seed))) for seed in seeds)

    def keep(self, place: Planned, png: bytes) -> str:
        """Without `force`, a file that another process has written meanwhile stays: the image gets the next free name.

        Only a file that the user named is not replaced by another name.
        """
        path = Path(place.path)
        while True:
            try:
                keep(path, png, write=write_atomic if self.force else write_once)
            except FileExistsError as err:
                if path == self.file:
                    raise _exists(path) from err
                path = self._unused(p for p in _numbered(Path(place.path)) if not p.exists())
                self.taken.add(path.name)
            else:
                return str(path)

    def _place(self, prompt: Prompt, seed: int) -> Path:
        path = self._unused(_numbered(self._name(prompt, seed)))
        if path.exists() and not self.force:
            raise _exists(path)
        self.taken.add(path.name)
        return path

    def _unused(self, paths: Iterator[Path]) -> Path:
        """The first path whose name this call has not used."""
        return next(p for p in paths if p.name not in self.taken)

    def _name(self, prompt: Prompt, seed: int) -> Path:
        if self.file is None:
            return self.folder / f"{slug(prompt.text)}-{seed}.png"
        if not self.many:
            return self.file
        middle = "" if self.n_prompts == 1 else f"-{self.n_prompts}"
        return self.file.with_name(f"{self.file.stem}{middle}-{seed}.png")


def keep(path: Path, data: bytes, *, write: Callable[[Path, bytes], None] = write_atomic) -> None:
    """Write one file for the user, whole or not at all, and create its folder if needed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DiskError(f"cannot create {path.parent}: {err.strerror}", reason="output") from err
    try:
        write(path, data)
    except NotDurableError:
        pass  # the file is complete; a power cut could lose it
    except DiskError as err:  # its own hint is about stores
        raise DiskError(err.what, note=err.note, reason="output") from err


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}-{number}.png")


def _exists(path: Path) -> UsageError:
    return UsageError(f"file already exists: {path}", reason="file-exists")


def check_folder(folder: Path) -> None:
    """Refuse, before the model is loaded, a folder that cannot take a file."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    if folder.is_symlink() and not folder.exists():
        raise UsageError(f"not a folder: {folder}", note="it is a link to nothing", reason="output")
    if there.exists() and not there.is_dir():
        raise UsageError(f"not a folder: {there}", reason="stdout" if folder.parent == Path("/dev") else "output")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DiskError(f"cannot write to {folder}: no write permission for {there}", reason="output")
