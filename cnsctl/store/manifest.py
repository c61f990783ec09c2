"""`store.json`: the base model and mode of a store, which never change, and where models outside the store are.

Owns its fields, its format and its check; must not know how a base model is loaded.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cnsctl.concept import Mode
from cnsctl.errors import StoreDamagedError
from cnsctl.formats import canonical
from cnsctl.formats.versions import check_version
from cnsctl.settings import Prediction

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FILE = "store.json"
MAX_BYTES = 8 << 20

FORMAT = 2
"""Version of `store.json`. A store that needs nothing of format 2 is written in format 1, which older versions read."""

KINDS = ("pocket", "folder", "file")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SITE = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_OPTIONAL = frozenset({"prediction", "origin"})
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
    """What its denoiser predicts, if the user said so: `epsilon` or `v_prediction`. From format 2 on."""
    origin: str | None = None
    """Where it was downloaded from: `OWNER/NAME@COMMIT`. From format 2 on."""

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
    """The CLIP of CLIP-I and CLIP-T, in place of the base model's own. From format 2 on."""
    judge: MetricModel | None = None
    """A second backbone for the similarity of images. From format 2 on."""

    @property
    def format(self) -> int:
        """The oldest version that can contain this."""
        is_new = self.base.kind == "file" or self.base.prediction or self.base.origin or self.clip or self.judge
        return FORMAT if is_new else 1


def to_bytes(manifest: StoreManifest) -> bytes:
    """Write `store.json`.

    Raises:
        ValueError: the result could not be read again.
    """
    base = {**asdict(manifest.base), "sites": {site: list(shape) for site, shape in manifest.base.sites.items()}}
    models = {key: asdict(model) for key in _MODELS if (model := getattr(manifest, key)) is not None}
    document = {
        "format": manifest.format,
        "mode": str(manifest.mode),
        "created": manifest.created,
        "base": {key: value for key, value in base.items() if key not in _OPTIONAL or value is not None},
        **{key: {k: v for k, v in model.items() if v is not None} for key, model in models.items()},
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
            f"{shown} is damaged: {err}", hint="restore it from a backup, which may be old: it hardly ever changes"
        ) from err


def _parse(content: bytes, shown: str) -> StoreManifest:
    document = canonical.parse_object(content)
    check_version(document.get("format"), FORMAT, shown)
    _check_keys(document, {"format", "mode", "created", "base"}, optional=_MODELS, what="its")
    return StoreManifest(
        base=_base(document["base"]),
        mode=Mode(_line(document, "mode")),
        created=_line(document, "created"),
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
    )


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
