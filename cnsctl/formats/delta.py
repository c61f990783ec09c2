"""The native format: a concept's delta as one self-contained file.

Owns the format of delta files and their checks; must not know the store around them.

Per site `S.gaps` (see `gaps`) and `S.values` (fp16), per text encoder `vectors.E` (fp16), and one metadata object. It
contains neither name nor time nor host, so equal deltas give equal bytes. `format` and `kind` are in every version.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, cast

import numpy as np

from cnsctl.concept import Delta, Mode
from cnsctl.errors import NotSavedError, StoreDamagedError
from cnsctl.export_formats import ExportFormat
from cnsctl.formats.gaps import decode_gaps, encode_gaps
from cnsctl.formats.own_file import metadata_of, pack, read_header, read_tensors
from cnsctl.formats.versions import check_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from cnsctl.formats.gaps import Codes
    from cnsctl.formats.tensor_file import Header

    Tensors = Mapping[str, NDArray[np.generic]]
    Shapes = dict[str, tuple[int, int]]

NAME = ExportFormat.NATIVE

FORMAT = 1
"""Version of delta files."""

KIND = "delta"
_META = frozenset({"format", "kind", "class_word", "fingerprint", "mode", "recipe", "shapes"})
_PER_WEIGHT, _BESIDE = 6, 64 << 20
"""Bytes of a delta at most: per K/V weight, and beside them."""

_PART = re.compile(r"[A-Za-z0-9_.-]{1,200}")
"""A site or text encoder, by `fullmatch`."""
_VECTORS = "vectors."


def matches(header: Header) -> bool:
    """Is a file with this header a delta file?"""
    meta = metadata_of(header.metadata)
    return meta is not None and meta.get("kind") == KIND


def write(delta: Delta) -> bytes:
    """Write a delta: about three bytes per neuron.

    Raises:
        NotSavedError: it could not be read again: values are not finite, or indices are not sorted.
    """
    tensors: dict[str, NDArray[np.generic]] = {}
    try:
        _check(delta)
        for site in sorted(delta.shapes):
            tensors[f"{site}.gaps"] = encode_gaps(np.asarray(delta.indices[site], np.int64))
            tensors[f"{site}.values"] = delta.values[site]
        tensors |= {f"{_VECTORS}{encoder}": table for encoder, table in delta.vectors.items()}
    except ValueError as err:
        raise NotSavedError(
            f"cannot save the delta of {delta.class_word!r}: {err}", hint="use a lower learning rate"
        ) from err
    meta = {
        **delta.more,
        "format": FORMAT,
        "kind": KIND,
        "class_word": delta.class_word,
        "fingerprint": delta.fingerprint,
        "mode": str(delta.mode),
        "recipe": dict(delta.recipe),
        "shapes": {site: list(shape) for site, shape in delta.shapes.items()},
    }
    return pack(meta, tensors)


def most_bytes(shapes: Mapping[str, tuple[int, int]]) -> int:
    """Bytes that no delta of these sites exceeds."""
    return _PER_WEIGHT * sum(rows * columns for rows, columns in shapes.values()) + _BESIDE


def read(data: bytes) -> Delta:
    """Read and check a delta. Its arrays are copies, not views into the data.

    Raises:
        StoreDamagedError: the message names the part that is wrong.
        FormatTooNewError: written by a newer cnsctl.
    """
    try:
        meta, shapes, tensors = _parsed(data)
        delta = Delta(
            shapes=shapes,
            indices=_indices(shapes, tensors),
            values={site: _halves(tensors, f"{site}.values") for site in shapes},
            vectors={e: _halves(tensors, f"{_VECTORS}{e}") for e in _encoders(shapes, tensors)},
            class_word=_text(meta, "class_word"),
            fingerprint=_text(meta, "fingerprint"),
            mode=Mode(_text(meta, "mode")),
            recipe=_recipe(meta),
            more={key: value for key, value in meta.items() if key not in _META},
        )
        _check(delta)
    except ValueError as err:
        raise _damaged(err) from err
    return delta


def read_indices(data: bytes) -> dict[str, NDArray[np.int64]]:
    """Read only which neurons a delta owns, per site, with the same checks.

    Raises:
        StoreDamagedError, FormatTooNewError: as `read`.
    """
    try:
        _, shapes, tensors = _parsed(data)
        return _indices(shapes, tensors)
    except ValueError as err:
        raise _damaged(err) from err


def _damaged(err: ValueError) -> StoreDamagedError:
    return StoreDamagedError(
        f"the delta is damaged: {err}", hint="restore it from a backup, or train the concept again"
    )


def _parsed(data: bytes) -> tuple[Mapping[str, object], Shapes, Tensors]:
    header = read_header(data)
    check_version(header.meta.get("format"), FORMAT, "the delta")
    if not set(header.meta) >= _META or header.meta["kind"] != KIND:
        raise ValueError(f"metadata: not a {KIND}")
    shapes = _shapes(header.meta["shapes"])
    tensors = read_tensors(data, header)
    wanted = _names_of(shapes)
    if missing := sorted(wanted - set(tensors)):
        raise ValueError(f"tensors: {missing[0]!r} is missing")
    if extra := sorted(n for n in set(tensors) - wanted if not n.startswith(_VECTORS)):
        raise ValueError(f"tensors: {extra[0][:80]!r} does not belong there")
    return header.meta, shapes, tensors


def _shapes(value: object) -> Shapes:
    if not isinstance(value, dict):
        raise ValueError("shapes: not an object")  # noqa: TRY004  one exception for every fault of a file
    for site, shape in value.items():
        if not _PART.fullmatch(site):  # before a message shows it
            raise ValueError(f"shapes: {site[:80]!r} is not a name of a site")
        if not isinstance(shape, list) or len(shape) != 2 or any(type(n) is not int for n in shape):
            raise ValueError(f"shapes: {site[:80]!r} does not have rows and columns")
    return {site: (shape[0], shape[1]) for site, shape in value.items()}


def _indices(shapes: Shapes, tensors: Tensors) -> dict[str, NDArray[np.int64]]:
    found = {}
    for site, (rows, columns) in shapes.items():
        codes = tensors[f"{site}.gaps"]
        if codes.dtype.kind != "u" or codes.ndim != 1:
            raise ValueError(f"{site}.gaps: not a flat list of uint8 or uint16")
        try:
            found[site] = decode_gaps(cast("Codes", codes), rows * columns)
        except ValueError as err:
            raise ValueError(f"{site}.gaps: {err}") from err
    return found


def _halves(tensors: Tensors, name: str) -> NDArray[np.float16]:
    if tensors[name].dtype != np.dtype("<f2"):
        raise ValueError(f"{name[:80]}: not float16")
    return tensors[name].astype(np.float16)


def _encoders(shapes: Shapes, tensors: Tensors) -> list[str]:
    return sorted(name.removeprefix(_VECTORS) for name in set(tensors) - _names_of(shapes))


def _names_of(sites: Iterable[str]) -> set[str]:
    """Names of the tensors of sites."""
    return {f"{site}.{half}" for site in sites for half in ("gaps", "values")}


def _text(meta: Mapping[str, object], key: str) -> str:
    value = meta[key]
    if not isinstance(value, str):
        raise ValueError(f"{key}: not a text")  # noqa: TRY004  as above
    return value


def _recipe(meta: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    recipe = meta["recipe"]
    if not isinstance(recipe, dict):
        raise ValueError("recipe: not an object")  # noqa: TRY004  as above
    return recipe


def _check(delta: Delta) -> None:
    """Check what must hold for every delta, trained or read.

    Raises:
        ValueError: the message names the part that is wrong.
    """
    for key, text, least in (("class_word", delta.class_word, 0), ("fingerprint", delta.fingerprint, 1)):
        if not least <= len(text) <= 400 or not text.isprintable() or text != text.strip():
            raise ValueError(f"{key}: blank, too long, or with control characters")
    for key, value in delta.recipe.items():
        if not key.isprintable() or not _is_setting(value):
            raise ValueError(f"recipe: {key[:80]!r} is not a setting")
    if not delta.shapes or set(delta.shapes) != set(delta.indices) or set(delta.shapes) != set(delta.values):
        raise ValueError("sites: not the same in shapes, indices and values")
    for part in [*delta.shapes, *delta.vectors]:
        if not _PART.fullmatch(part):
            raise ValueError(f"sites and text encoders: {part[:80]!r} is not a valid name")
    if {f"{_VECTORS}{encoder}" for encoder in delta.vectors} & _names_of(delta.shapes):
        raise ValueError("sites and text encoders: two share a name")
    for site in delta.shapes:
        _check_site(delta, site)
    _check_vectors(delta.vectors)


def _is_setting(value: object) -> bool:
    if isinstance(value, str):
        return value.isprintable()
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _check_site(delta: Delta, site: str) -> None:
    (rows, columns), flat, values = delta.shapes[site], delta.indices[site], delta.values[site]
    if min(rows, columns) < 1 or rows * columns > 1 << 40:
        raise ValueError(f"{site}: {rows} × {columns} is not a shape of a weight")
    if flat.ndim != 1 or flat.shape != values.shape:
        raise ValueError(f"{site}: {flat.shape} indices, {values.shape} values")
    if len(flat) and (flat[0] < 0 or flat[-1] >= rows * columns or not (flat[1:] > flat[:-1]).all()):
        raise ValueError(f"{site}: indices are not sorted, unique and below {rows * columns}")
    if values.dtype != np.float16 or not np.isfinite(values).all():
        raise ValueError(f"{site}: values are not finite numbers in float16")


def _check_vectors(vectors: Mapping[str, NDArray[np.float16]]) -> None:
    if len({len(table) if table.ndim == 2 else 0 for table in vectors.values()} - {0}) != 1:
        raise ValueError("vectors: every text encoder must have the same number, at least one")
    for encoder, table in vectors.items():
        if table.ndim != 2 or table.size == 0 or table.dtype != np.float16 or not np.isfinite(table).all():
            raise ValueError(f"vectors of {encoder}: not finite numbers in float16, (vectors, width)")
