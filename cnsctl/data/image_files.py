"""The files of a folder: which are images, which are images that cannot be read here, and which are something else.

Owns this division; must not know captions, layouts or pixels.
"""

from __future__ import annotations

from collections import Counter
from stat import S_ISREG
from typing import TYPE_CHECKING

from cnsctl.data.image_kinds import HEAD, can_read, kind_of
from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".heic", ".heif", ".bmp", ".gif", ".tif", ".tiff",
)  # fmt: skip
"""Suffixes of image files in a folder, in any case. Files with other suffixes are images if their content is."""

_TIFF = (".tif", ".tiff", "")
"""Raw files of cameras begin as TIFF files do, so these suffixes count too."""


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder and its subfolders.

    Raises:
        ImageError: the folder cannot be read, or does not contain an image that can be read.
    """
    files, folders = listed(folder, recursive=True)
    images, unread, others = sorted_out(files)
    if not images:
        refuse(folder, folders, unread, others, recursive=True)
    return images


def listed(folder: Path, *, recursive: bool) -> tuple[list[Path], list[Path]]:
    """Files, by name, with those of subfolders if asked; and the folder's own subfolders."""
    try:
        seen = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.name)
        is_folder = {p: p.is_dir() for p in seen}
    except OSError as err:
        raise ImageError(f"cannot read '{folder}': {err.strerror}", hint="check its permissions") from err
    folders = [p for p in seen if is_folder[p]]
    files = [p for p in seen if not is_folder[p]]
    if recursive:
        for inner in folders:
            if not inner.is_symlink():  # it may lead back to this folder
                files += listed(inner, recursive=True)[0]
    return files, folders


def sorted_out(files: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, str]], list[Path]]:
    """Images, images of formats that cannot be read here, and other files."""
    images, unread, others = [], [], []
    for path in files:
        kind, suffix = kind_of(_head(path)), path.suffix.lower()
        if kind is not None and suffix not in SUFFIXES and kind == "TIFF" and suffix not in _TIFF:
            kind = None
        if kind is not None and not (can_read(kind) and (kind != "HEIF" or _opens(path))):
            unread.append((path, kind))
        elif kind is not None or suffix in SUFFIXES:  # a damaged image is refused when it is decoded
            images.append(path)
        else:
            others.append(path)
    return images, unread, others


def _opens(path: Path) -> bool:
    """Whether the decoder of HEIC finds an image: it does not support all that phones write, so the file may be sound."""
    import warnings

    from PIL import Image

    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(path, formats=("HEIF",)):
                return True
        except Exception:  # noqa: BLE001  it fails in many ways
            return False


def _head(path: Path) -> bytes:
    try:
        if not S_ISREG(path.stat().st_mode):
            return b""
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def refuse(
    folder: Path,
    folders: Sequence[Path],
    unread: Sequence[tuple[Path, str]],
    others: Sequence[Path],
    *,
    recursive: bool,
) -> None:
    if unread:
        hint = _HEIC if _needs_package(unread) else "save them as JPEG or PNG in another program"
        raise ImageError(
            f"cannot read the images in the folder '{folder}'", note=f"not read:{_counts(unread)}", hint=hint
        )
    within = None if recursive else next((f for f in folders if has_images(f)), None)
    what = f"it contains {counted(len(others), 'other file')}{by_suffix(others)}" if others else "it contains no files"
    what += f"; images end in {', '.join(SUFFIXES)}"
    raise ImageError(
        f"no images in the folder '{folder}'",
        note=what,
        hint=f"subfolders are not searched: give '{within}'" if within else "give a folder of images",
        reason="subfolders" if within else "",
        folder=str(within),
    )


def has_images(folder: Path) -> bool:
    try:
        files, _ = listed(folder, recursive=False)
    except ImageError:
        return False
    images, unread, _ = sorted_out(files)
    return bool(images or unread)


_HEIC = "pip install 'cnsctl[heic]'"


def unreadable(unread: Sequence[tuple[Path, str]]) -> tuple[str, ...]:
    if not unread:
        return ()
    advice = f"; to read HEIC: {_HEIC}" if _needs_package(unread) else "; save them as JPEG or PNG in another program"
    return (f"not read:{_counts(unread)}{advice}",)


def _counts(unread: Sequence[tuple[Path, str]]) -> str:
    return by_suffix([path for path, _ in unread])[1:]


def _needs_package(unread: Sequence[tuple[Path, str]]) -> bool:
    return any(kind == "HEIF" for _, kind in unread) and not can_read("HEIF")


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def by_suffix(files: Iterable[Path]) -> str:
    """As ": 2 .mov, 1 .pdf", the most frequent first; empty for none."""
    counts = Counter(path.suffix.lower() or "without suffix" for path in files)
    listed = ", ".join(f"{n} {suffix}" for suffix, n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:8])
    return f": {listed}{', …' if len(counts) > 8 else ''}" if counts else ""
