"""Weights as small files that come back from another machine: a complete set of one moment, or none."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

from pocket.errors import PocketError

if TYPE_CHECKING:
    from pathlib import Path

PIECE_BYTES = 15 * 2**20
"""A file may have 16 MiB, and there may be eight of them: pocket's UNet needs three."""

MANIFEST = "manifest.json"


def put(out: Path, blob: bytes, record: dict[str, Any], *, stage: Path) -> None:
    """Replace the set in a folder by a new one; at every moment a complete set is there, once there was one.

    The pieces are written elsewhere, because two sets together have more than the 64 MiB that may come back. Both
    are in the folder only for the milliseconds between a rename and a deletion.

    Args:
        out: folder whose files come back.
        blob: the weights file.
        record: what is known about it; goes into the manifest.
        stage: folder outside `out` for the unfinished set.
    """
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    pieces: list[dict[str, Any]] = []
    for start in range(0, len(blob), PIECE_BYTES):
        piece = blob[start : start + PIECE_BYTES]
        name = f"unet.{len(pieces)}"
        (stage / name).write_bytes(piece)
        pieces.append({"name": name, "bytes": len(piece), "sha256": sha256(piece)})
    manifest = {**record, "sha256": sha256(blob), "pieces": pieces}
    (stage / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    new, current = out / "new", out / "weights"
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(new, ignore_errors=True)
    shutil.move(stage, new)
    shutil.rmtree(current, ignore_errors=True)
    new.rename(current)


def newest(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The weights file and the record of the latest complete set below a folder.

    Raises:
        PocketError: no set is complete; the message lists what is missing or damaged.
    """
    manifests = sorted(folder.rglob(MANIFEST))
    if not manifests:
        raise PocketError(f"no {MANIFEST} in {folder}", hint="give the folder of the files that came back")
    complete, problems = [], []
    for path in manifests:
        manifest = _manifest(path)
        faults = _faults(path.parent, manifest)
        problems += faults
        if not faults:
            complete.append((path.parent, manifest))
    if not complete:
        raise PocketError(f"no complete set in {folder}: {', '.join(problems)}", hint="fetch the files again")
    found, manifest = max(complete, key=lambda one: one[1]["samples"])
    blob = b"".join((found / piece["name"]).read_bytes() for piece in manifest["pieces"])
    if sha256(blob) != manifest["sha256"]:
        raise PocketError(f"the pieces in {found} are not the file that was cut", hint="fetch the files again")
    return blob, {key: value for key, value in manifest.items() if key != "pieces"}


def sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise PocketError(f"{path} is damaged: {err}", hint="fetch the files again") from err
    return manifest


def _faults(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is wrong with the pieces of a set."""
    faults = []
    for piece in manifest["pieces"]:
        path = folder / piece["name"]
        if not path.is_file():
            faults.append(f"{path.relative_to(folder.parent)} is missing")
        elif sha256(path.read_bytes()) != piece["sha256"]:
            faults.append(f"{path.relative_to(folder.parent)} is damaged or of another set")
    return faults
