"""`store.json`: the base model and mode of a store, which never change.

Owns its fields, its format and its check; must not know how a base model is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cnsctl.concept import Mode
from cnsctl.errors import StoreDamagedError
from cnsctl.formats import canonical
from cnsctl.formats.versions import check_version

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "store.json"
MAX_BYTES = 8 << 20

FORMAT = 1
"""Version of `store.json`."""

KINDS = ("pocket", "folder")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SITE = re.compile(r"[A-Za-z0-9_.-]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRecord:
    """The base model of a store."""

    kind: str
    """`pocket` or `folder`."""
    path: str | None
    """Absolute path of its folder; None if the store contains it, in `base/`."""
    family: str
    fingerprint: str
    name: str
    files: Mapping[str, str]
    """SHA-256 of its files, by path relative to its folder."""
    sites: Mapping[str, tuple[int, int]]
    """Rows and columns of each site."""
    denoiser_weights: int

    @property
    def n_weights(self) -> int:
        """K/V weights: all that concepts can own."""
        return sum(self.sizes.values())

    @property
    def sizes(self) -> dict[str, int]:
        """Weights of each site."""
        return {site: rows * columns for site, (rows, columns) in self.sites.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreManifest:
    """What never changes in a store."""

    base: BaseRecord
    mode: Mode
    created: str
    """ISO 8601, UTC."""


def to_bytes(manifest: StoreManifest) -> bytes:
    """Write `store.json`.

    Raises:
        ValueError: the result could not be read again.
    """
    base = manifest.base
    document = {
        "format": FORMAT,
        "mode": str(manifest.mode),
        "created": manifest.created,
        "base": {
            "kind": base.kind,
            "path": base.path,
            "family": base.family,
            "fingerprint": base.fingerprint,
            "name": base.name,
            "files": dict(base.files),
            "sites": {site: list(shape) for site, shape in base.sites.items()},
            "denoiser_weights": base.denoiser_weights,
        },
    }
    content = canonical.dump(document) + b"\n"
    _parse(content, FILE)
    return content


def from_bytes(content: bytes, shown: str) -> StoreManifest:
    """Read and check `store.json`.

    Raises:
        StoreDamagedError: the message names the part that is wrong.
        FormatTooNewError: written by a newer cnsctl.
    """
    try:
        return _parse(content, shown)
    except ValueError as err:
        raise StoreDamagedError(
            f"{shown} is damaged: {err}", hint="restore it from a backup, which may be old: it never changes"
        ) from err


def _parse(content: bytes, shown: str) -> StoreManifest:
    document = canonical.parse_object(content)
    check_version(document.get("format"), FORMAT, shown)
    if set(document) != {"format", "mode", "created", "base"}:
        raise ValueError("its keys are not format, mode, created and base")
    return StoreManifest(
        base=_base(document["base"]), mode=Mode(_line(document, "mode")), created=_line(document, "created")
    )


def _base(value: object) -> BaseRecord:
    fields = BaseRecord.__dataclass_fields__
    if not isinstance(value, dict) or set(value) != set(fields):
        raise ValueError(f"base: its keys are not {', '.join(fields)}")
    kind, path, n_denoiser = _line(value, "kind"), value["path"], value["denoiser_weights"]
    if kind not in KINDS:
        raise ValueError(f"base: kind {kind[:40]!r} is not one of {', '.join(KINDS)}")
    if path is not None and not (isinstance(path, str) and path.startswith("/") and "\0" not in path):
        raise ValueError("base: path is not absolute")
    if type(n_denoiser) is not int or not 0 < n_denoiser < 1 << 53:
        raise ValueError("base: denoiser_weights is not a count")
    return BaseRecord(
        kind=kind,
        path=path,
        family=_line(value, "family"),
        fingerprint=_line(value, "fingerprint"),
        name=_line(value, "name"),
        files=_files(value["files"]),
        sites=_sites(value["sites"]),
        denoiser_weights=n_denoiser,
    )


def _line(document: Mapping[str, object], key: str) -> str:
    value = document[key]
    if not isinstance(value, str) or not 1 <= len(value) <= 400 or not value.isprintable():
        raise ValueError(f"{key} is not a line of text")
    return value


def _files(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("base: files is not an object")  # noqa: TRY004  one exception for every fault
    for path, sha in value.items():
        if not _is_inside(path) or not isinstance(sha, str) or not _SHA256.fullmatch(sha):
            raise ValueError(f"base: file {path[:80]!r} is not a safe relative path with a SHA-256")
    return value


def _is_inside(path: str) -> bool:
    """Is it a normalized relative path that does not leave its folder?"""
    parts = PurePosixPath(path).parts
    return path.isprintable() and "\\" not in path and path == "/".join(parts) != "" and ".." not in parts


def _sites(value: object) -> dict[str, tuple[int, int]]:
    if not isinstance(value, dict) or not value:
        raise ValueError("base: sites is not an object")
    for site, shape in value.items():
        if not _SITE.fullmatch(site) or not isinstance(shape, list) or len(shape) != 2:
            raise ValueError(f"base: site {site[:80]!r} is malformed")
        if any(type(n) is not int or not 0 < n < 1 << 24 for n in shape):
            raise ValueError(f"base: site {site} does not have rows and columns")
    return {site: (shape[0], shape[1]) for site, shape in value.items()}
