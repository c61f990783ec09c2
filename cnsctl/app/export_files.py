"""Where an export is written: names that every system accepts, free space, and files that are whole or absent.

The name of an embedding's file is what ComfyUI, A1111 and InvokeAI read in a prompt. So it begins with `cns-`: a file
`dog.safetensors` would change the word "dog" of every prompt.

Owns names and files; must not know formats' contents.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cnsctl.app.output_paths import STDOUT, check_folder
from cnsctl.bases.part_files import INDEX
from cnsctl.errors import DiskError, NotDurableError, UsageError
from cnsctl.export_formats import ExportFormat
from cnsctl.store import free_bytes, remove_abandoned, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TRIGGER = "cns-{}"
"""Name of an embedding's file, from the name of its concept."""

SUFFIX = ".safetensors"
SUFFIXES = {ExportFormat.BUNDLE: ".zip", ExportFormat.CHECKPOINT: ""}
"""Of formats that are not safetensors files."""

_OTHER_SUFFIXES = {SUFFIX, ".zip", ".pt", ".pth", ".bin", ".ckpt", ".pickle", ".json"}
"""Of files. Any other suffix is part of a folder's name, such as `sd1.5`."""

_ENDS = {
    ExportFormat.LORA: "",
    ExportFormat.EMBEDDING: "",
    ExportFormat.NATIVE: ".delta",
    ExportFormat.BUNDLE: "",
}
"""What follows a concept's name; else the name of the format does."""

_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
"""Names that Windows keeps for devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an export is written."""

    folder: Path
    file: Path | None
    """The one file that the user named; `-` for stdout."""
    force: bool

    def path(self, names: Sequence[str], form: ExportFormat) -> Path:
        """Of the file, or the checkpoint's folder, with these concepts."""
        if self.file is not None:
            return self.file
        return self.folder / file_name(names, form)


def place_of(output: Path | None, form: ExportFormat, *, files: int, beside: bool, force: bool) -> Place:
    """The place that a user means.

    Args:
        output: a file, a folder, or `-` for stdout; by default the current folder.
        form: the format.
        files: how many files of this format are written.
        beside: an embedding is written beside each.
        force: overwrite existing files.

    Raises:
        UsageError: not a place for these files.
    """
    if output is None:
        return Place(folder=Path(), file=None, force=force)
    if output == STDOUT:
        if files != 1 or beside or form is ExportFormat.CHECKPOINT:
            what = "a folder" if form is ExportFormat.CHECKPOINT else f"{files * (1 + beside)} files"
            raise UsageError(f"cannot write {what} to stdout", note=f"the format is {form}", reason="export-to-stdout")
        return Place(folder=Path(), file=STDOUT, force=force)
    if form is ExportFormat.CHECKPOINT:
        inside = output.is_dir() and not (output / INDEX).is_file()
        return Place(folder=output if inside else output.parent, file=None if inside else output, force=force)
    suffix = SUFFIXES.get(form, SUFFIX)
    if output.is_dir() or output.suffix.lower() not in _OTHER_SUFFIXES:
        return Place(folder=output, file=None, force=force)
    if output.suffix.lower() != suffix:
        raise UsageError(
            f"not the suffix of this format: {output.suffix}", note=f"{form} writes {suffix}", reason="export-suffix"
        )
    if files > 1:
        raise UsageError(
            f"one file for {files} concepts: {output}", note=f"{form} writes one for each", reason="export-folder"
        )
    return Place(folder=output.parent, file=output, force=force)


def file_name(names: Sequence[str], form: ExportFormat) -> str:
    """The name of a file with these concepts."""
    if form is ExportFormat.EMBEDDING:
        return f"{TRIGGER.format(names[0])}{SUFFIX}"
    joined = "-".join(names)
    stem = joined if len(joined) <= 80 else f"{names[0]}-and-{len(names) - 1}-more"
    if stem in _DEVICES:
        stem = f"{stem}-concept"
    return f"{stem}{_ENDS.get(form, f'-{form}')}{SUFFIXES.get(form, SUFFIX)}"


def check_places(paths: Sequence[Path], *, force: bool, folders: bool = False) -> None:
    """Refuse, before anything is computed, places that cannot be written.

    Args:
        paths: of the files.
        force: overwrite existing files.
        folders: the paths are those of pipeline folders; nothing else is replaced by one.

    Raises:
        UsageError: a file exists already, it would replace a folder, or two files would have one name.
        DiskError: write permission is missing.
    """
    if twice := [path for i, path in enumerate(paths) if path in paths[:i]]:
        raise UsageError(f"two files would have the same name: {twice[0]}", hint="export the concepts one by one")
    for path in paths:
        if path == STDOUT:
            continue
        check_folder(path.parent)
        if path.is_dir() and not folders:
            raise UsageError(f"the file would replace a folder: {path}", reason="output")
        if path.exists() and not force:
            raise exists(path)
        if folders and path.exists() and not (path / INDEX).is_file():
            raise UsageError(f"not a folder of a pipeline: {path}", reason="output")


def check_space(folder: Path, needed: int) -> None:
    """Refuse an export that the disk has no room for.

    Raises:
        DiskError: with both sizes.
    """
    if needed > (free := free_bytes(folder.absolute())):
        raise DiskError(
            f"not enough space in {folder.absolute()}: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free",
            reason="output",
        )


def exists(path: Path) -> UsageError:
    """The error for a file that must not be overwritten."""
    return UsageError(f"file already exists: {path}", reason="export-exists")


def write_file(path: Path, write: Callable[[BinaryIO], None], *, force: bool) -> None:
    """Write one file, whole or not at all, and create its folder if needed.

    Raises:
        UsageError: another process wrote a file of this name meanwhile.
        DiskError: it cannot be written.
    """
    make_parent(path)
    remove_abandoned(path.parent)
    try:
        with writing(path, overwrite=force) as file:
            write(file)
    except FileExistsError as err:
        raise exists(path) from err
    except NotDurableError:
        pass  # the file is complete; a power cut could lose it
    except DiskError as err:  # its own hint is about stores
        raise DiskError(err.what, note=err.note, reason="output") from err


@contextmanager
def writing_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """A folder that gets its name when the block ends without an error; with `force` it replaces the old one.

    Raises:
        UsageError: the name is taken.
        DiskError: it cannot be written.
    """
    make_parent(path)
    # a number of this process is not unique: each container has a process 1
    temp = path.with_name(f".tmp-{path.name[:40]}-{os.getpid()}-{os.urandom(6).hex()}")
    old = temp.with_name(f"{temp.name}-old")
    try:
        temp.mkdir()
        yield temp
        _allow_reading(temp)
        if path.exists() and not force:
            raise exists(path)
        if path.exists():
            path.rename(old)
        temp.rename(path)
    except OSError as err:
        raise DiskError(f"cannot write {path}: {err.strerror or err}", reason="output") from err
    finally:
        with suppress(OSError):
            if old.exists() and not path.exists():  # also after Ctrl-C between the two renames
                old.rename(path)
        for folder in (temp, old) if path.exists() else (temp,):
            with suppress(OSError):
                folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)


def _allow_reading(folder: Path) -> None:
    """Give files the usual permissions: a library writes weights for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644 & ~mask)


def make_parent(path: Path) -> None:
    """Create the folder of a file if needed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DiskError(f"cannot create {path.parent}: {err.strerror}", reason="output") from err
