"""Where images go: predictable names, and no file is overwritten without --force.

`-o FILE.png` with one picture is that file, with several `FILE-SEED.png` (from the second prompt on `FILE-2-SEED.png`,
`FILE-3-SEED.png` …). `-o FOLDER`, or no -o, gives `FOLDER/PROMPT-SEED.png`. A name that the same call has used already,
or that another process took while the image was generated, gets `-2`, `-3` …

Owns names; must not know models.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.data.prompt_grammar import slug
from cnsctl.errors import DiskError, NotDurableError, UsageError
from cnsctl.store import write_atomic, write_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cnsctl.concept import Prompt

STDOUT = Path("-")
NOWHERE = Path()
"""Of images that are only events."""

_FOREIGN = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jxl", ".ppm", ".svg", ".pdf"}
"""Endings that ask for a picture of another format. Any other ending belongs to a folder, such as `sd1.5`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One picture to draw, and its place."""

    prompt: Prompt
    seed: int
    path: Path


class Outputs:
    """Hands out places, each once; holds which are taken by this call."""

    def __init__(self, output: Path | None, *, many: bool, force: bool, save: bool = True) -> None:
        """`many`: whether more than one image will, or may, be generated. Without `save` no file is written."""
        self.force, self.many, self.save = force, many, save
        self.to_stdout = output == STDOUT
        self.folder, self.file = Path(), None
        if self.to_stdout and many:
            raise UsageError("cannot write several images to stdout", reason="many-to-stdout")
        if output is not None and not self.to_stdout:
            if output.suffix.lower() in _FOREIGN and not output.is_dir():
                raise UsageError(
                    f"unsupported image format: {output.suffix}",
                    note="images are PNG files",
                    reason="image-format",
                    path=output.with_suffix(".png"),
                )
            is_file = output.suffix.lower() == ".png" and not output.is_dir()
            self.folder, self.file = (output.parent, output) if is_file else (output, None)
        if save and not self.to_stdout:
            _check_folder(self.folder)
        self.taken: set[str] = set()
        self.n_prompts = 0

    def plan(self, prompt: Prompt, seeds: Sequence[int]) -> tuple[Planned, ...]:
        """Places for a prompt's pictures.

        Raises:
            UsageError: a file is there already and writing over it was not asked for.
        """
        self.n_prompts += 1
        return tuple(Planned(prompt=prompt, seed=seed, path=self._place(prompt, seed)) for seed in seeds)

    def keep(self, place: Planned, png: bytes) -> Path:
        """Write one image, whole or not at all, and return where it is.

        Without --force a file that another process has written meanwhile stays: the image gets the next free name,
        unless it is the one file that was asked for.

        Raises:
            UsageError: that file is there already.
            DiskError: the image cannot be written.
        """
        if self.to_stdout or not self.save:
            return place.path
        path = place.path
        while True:
            try:
                keep(path, png, write=write_atomic if self.force else write_once)
            except FileExistsError as err:
                if path == self.file:
                    raise _exists(path) from err
                path = self._free(place)
            else:
                return path

    def _place(self, prompt: Prompt, seed: int) -> Path:
        if self.to_stdout or not self.save:
            return STDOUT if self.to_stdout else NOWHERE
        path = next(p for p in _numbered(self._name(prompt, seed)) if p.name not in self.taken)
        if path.exists() and not self.force:
            raise _exists(path)
        self.taken.add(path.name)
        return path

    def _free(self, place: Planned) -> Path:
        names = _numbered(place.path)
        path = next(p for p in names if p.name not in self.taken and not p.exists())
        self.taken.add(path.name)
        return path

    def _name(self, prompt: Prompt, seed: int) -> Path:
        if self.file is None:
            return self.folder / f"{slug(prompt.text)}-{seed}.png"
        if not self.many:
            return self.file
        middle = "" if self.n_prompts == 1 else f"-{self.n_prompts}"
        return self.file.with_name(f"{self.file.stem}{middle}-{seed}.png")


def keep(path: Path, png: bytes, *, write: Callable[[Path, bytes], None] = write_atomic) -> None:
    """Write one image, whole or not at all; makes its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DiskError(f"cannot create {path.parent}: {err.strerror}", reason="output") from err
    try:
        write(path, png)
    except NotDurableError:
        pass  # the image is there
    except DiskError as err:  # its own hint is about stores
        raise DiskError(err.what, note=err.note, reason="output") from err


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}-{number}.png")


def _exists(path: Path) -> UsageError:
    return UsageError(f"file already exists: {path}", reason="file-exists")


def _check_folder(folder: Path) -> None:
    """Refuse before a model is loaded what would fail once the first picture is drawn."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    if there.exists() and not there.is_dir():
        raise UsageError(f"not a folder: {there}", reason="stdout" if folder.parent == Path("/dev") else "output")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DiskError(f"cannot write to {folder}: no write permission for {there}", reason="output")
