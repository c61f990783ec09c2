"""`store.json`: the base model and mode of a store, which never change, and where models outside the store are.

It is sealed by its SHA-256, and `store.json.bak` is a copy: if one of the two is damaged, the other one is read.

Owns its fields, its format, its check and its copy; must not know how a base model is loaded.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cnsctl.concept import Mode
from cnsctl.errors import CapacityError, CnsctlError, DiskError, NotDurableError, StoreDamagedError
from cnsctl.formats import canonical
from cnsctl.settings import Prediction
from cnsctl.store.files import read_bounded, write_atomic
from cnsctl.store.migrations import STORE, upgraded
from cnsctl.store.seal import frame_of, sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

FILE = STORE
COPY = "store.json.bak"
MAX_BYTES = 8 << 20

FORMAT = 3
"""Version of `store.json`. Formats 1 and 2, without a seal, were never released."""

KINDS = ("pocket", "folder", "file")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SITE = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_OPTIONAL = frozenset({"prediction", "origin", "checkpoint"})
"""Fields of the base model that a store need not have."""
_MODELS = ("clip", "judge")
"""Models that a store need not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRecord:
    """The base model of a store."""

    kind: str
    """`pocket`, `folder`, or `file`: a single-file checkpoint, whose configuration the store contains in `base/`."""
    path: str | None
    """Absolute path of its folder or file; None if the store contains it, in `base/`."""
    family: str
    fingerprint: str
    name: str
    files: Mapping[str, str]
    """SHA-256 of its files, by path relative to its folder."""
    sites: Mapping[str, tuple[int, int]]
    """Rows and columns of each site."""
    denoiser_weights: int
    prediction: str | None = None
    """What its denoiser predicts, if the user said so: `epsilon` or `v_prediction`."""
    origin: str | None = None
    """Where it was downloaded from: `OWNER/NAME@COMMIT`."""
    checkpoint: str | None = None
    """SHA-256 of its single file, if that is outside the store."""

    @property
    def n_weights(self) -> int:
        """K/V weights: all that concepts can own."""
        return sum(self.sizes.values())

    @property
    def sizes(self) -> dict[str, int]:
        """Weights of each site."""
        return {site: rows * columns for site, (rows, columns) in self.sites.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricModel:
    """A model outside the store that measures images."""

    name: str
    path: str
    """Absolute path of its folder."""
    fingerprint: str
    """SHA-256 over its weights and configuration."""
    origin: str | None = None
    """Where it was downloaded from: `OWNER/NAME@COMMIT`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreManifest:
    """The facts about a store as a whole. Paths and metric models can be replaced, everything else never changes."""

    base: BaseRecord
    mode: Mode
    created: str
    """ISO 8601, UTC."""
    clip: MetricModel | None = None
    """The CLIP of CLIP-I and CLIP-T, in place of the base model's own."""
    judge: MetricModel | None = None
    """A second backbone for the similarity of images."""
    format: int = FORMAT
    """Of the file that it was read from."""


def to_bytes(manifest: StoreManifest) -> bytes:
    """Write `store.json`.

    Raises:
        ValueError: the result could not be read again.
        CapacityError: the result is larger than its reader accepts.
    """
    base = {**asdict(manifest.base), "sites": {site: list(shape) for site, shape in manifest.base.sites.items()}}
    models = {key: asdict(model) for key in _MODELS if (model := getattr(manifest, key)) is not None}
    document = {
        "mode": str(manifest.mode),
        "created": manifest.created,
        "base": {key: value for key, value in base.items() if key not in _OPTIONAL or value is not None},
        **{key: {k: v for k, v in model.items() if v is not None} for key, model in models.items()},
    }
    content = sealed(canonical.dump(document), FORMAT)
    _parse(content, FILE)
    if len(content) > MAX_BYTES:
        raise CapacityError(f"{FILE} would be too large: {len(content)} bytes (at most {MAX_BYTES})")
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
            f"{shown} is damaged: {err}", hint="restore it from a backup, which may be old: it hardly ever changes"
        ) from err


def load(folder: Path) -> tuple[StoreManifest, str | None]:
    """Read `store.json`, or else its copy.

    Returns:
        The content, and why the copy was read, if it was.

    Raises:
        FileNotFoundError: both are missing.
        StoreDamagedError, FormatTooNewError, DiskError: neither can be read; the error is that of the first.
    """
    try:
        return _read(folder / FILE), None
    except (FileNotFoundError, CnsctlError) as err:
        try:
            found = _read(folder / COPY)
        except (FileNotFoundError, CnsctlError):
            raise err from None
        why = f"{folder / FILE} is missing" if isinstance(err, FileNotFoundError) else str(getattr(err, "what", err))
        return found, f"{why}; its copy {COPY} is used"


def save(folder: Path, manifest: StoreManifest, *, before: Callable[[], None]) -> list[str]:
    """Replace `store.json`, then its copy. Only for the holder of the store's lock.

    Args:
        folder: of the store.
        manifest: the new facts.
        before: called right before the rename; what it raises leaves the old facts.

    Returns:
        What failed after the new facts were in place.

    Raises:
        DiskError: full, read-only or failing; the old facts are saved.
    """
    content = to_bytes(manifest)
    warnings = []
    try:
        write_atomic(folder / FILE, content, before=before)
    except NotDurableError as err:
        warnings.append(f"a power cut may undo it: {err.what}")
    try:
        write_atomic(folder / COPY, content)
    except DiskError as err:
        warnings.append(f"its copy {COPY} is older: {err.what}")
    return warnings


def refresh_copy(folder: Path) -> None:
    """Write the copy again if it is not that of an intact `store.json`. Only for the holder of the store's lock."""
    try:
        content = intact(folder / FILE)
    except (FileNotFoundError, CnsctlError):
        return  # the copy may be the only intact one
    try:
        if read_bounded(folder / COPY, MAX_BYTES) == content:
            return
    except (FileNotFoundError, StoreDamagedError, DiskError):
        pass
    write_atomic(folder / COPY, content)


def intact(path: Path) -> bytes:
    """The bytes of `store.json` or its copy, checked.

    Raises:
        FileNotFoundError, StoreDamagedError, FormatTooNewError, DiskError: it is missing, or cannot be read.
    """
    content = read_bounded(path, MAX_BYTES)
    from_bytes(content, str(path))
    return content


def _read(path: Path) -> StoreManifest:
    return from_bytes(read_bounded(path, MAX_BYTES), str(path))


def _parse(content: bytes, shown: str) -> StoreManifest:
    number, payload = frame_of(content, FORMAT, shown)
    document = upgraded(FILE, number, payload, FORMAT)
    _check_keys(document, {"mode", "created", "base"}, optional=_MODELS, what="its")
    return StoreManifest(
        base=_base(document["base"]),
        mode=Mode(_line(document, "mode")),
        created=_line(document, "created"),
        format=number,
        **{key: _model(document[key], key) for key in _MODELS if key in document},
    )


def _check_keys(found: Mapping[str, object], required: set[str], *, optional: Collection[str], what: str) -> None:
    if not required <= set(found) <= required | set(optional):
        raise ValueError(f"{what} keys are not {', '.join(sorted(required))}")


def _base(value: object) -> BaseRecord:
    if not isinstance(value, dict):
        raise ValueError("base: not an object")  # noqa: TRY004  one exception for every fault
    _check_keys(value, set(BaseRecord.__dataclass_fields__) - _OPTIONAL, optional=_OPTIONAL, what="base: its")
    kind, path, n_denoiser = _line(value, "kind"), value["path"], value["denoiser_weights"]
    if kind not in KINDS:
        raise ValueError(f"base: kind {kind[:40]!r} is not one of {', '.join(KINDS)}")
    if path is not None and not _is_absolute(path):
        raise ValueError("base: path is not absolute")
    if value.get("prediction") not in (None, *Prediction):
        raise ValueError(f"base: prediction is not one of {', '.join(Prediction)}")
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
        prediction=value.get("prediction"),
        origin=_line(value, "origin") if value.get("origin") is not None else None,
        checkpoint=_sha256(value["checkpoint"]) if value.get("checkpoint") is not None else None,
    )


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError("base: checkpoint is not a SHA-256")
    return value


def _model(value: object, key: str) -> MetricModel:
    if not isinstance(value, dict):
        raise ValueError(f"{key}: not an object")  # noqa: TRY004  one exception for every fault
    _check_keys(value, {"name", "path", "fingerprint"}, optional=("origin",), what=f"{key}: its")
    if not _is_absolute(value["path"]):
        raise ValueError(f"{key}: path is not absolute")
    if not _SHA256.fullmatch(_line(value, "fingerprint")):
        raise ValueError(f"{key}: fingerprint is not a SHA-256")
    origin = _line(value, "origin") if "origin" in value else None
    return MetricModel(name=_line(value, "name"), path=value["path"], fingerprint=value["fingerprint"], origin=origin)


def _is_absolute(path: object) -> bool:
    return isinstance(path, str) and path.startswith("/") and "\0" not in path


def _line(document: Mapping[str, object], key: str) -> str:
    value = document[key]
    if not isinstance(value, str) or not 1 <= len(value) <= 400 or not value.isprintable():
        raise ValueError(f"{key} is not a line of text")
    return value


def _files(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("base: files is not an object")  # noqa: TRY004  one exception for every fault
    for path, sha in value.items():
        if not is_inside(path) or not isinstance(sha, str) or not _SHA256.fullmatch(sha):
            raise ValueError(f"base: file {path[:80]!r} is not a safe relative path with a SHA-256")
    return value


def is_inside(path: str) -> bool:
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
