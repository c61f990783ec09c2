"""A concept's delta as one self-contained file, and back.

Owns the format of delta files and the distrust with which they are read; must not know the store around them.

Per site `S.gaps` (see `gaps`) and `S.values` (fp16), per text encoder `vectors.E` (fp16), and one metadata object. There
is no name, time or host in it: equal deltas give equal bytes.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, cast

import numpy as np

from cnsctl.concept import FORMAT, Delta, Mode
from cnsctl.errors import FormatTooNewError, NotSavedError, StoreDamagedError
from cnsctl.formats.gaps import decode_gaps, encode_gaps
from cnsctl.formats.safetensors_file import Header, pack, read_header, read_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from cnsctl.formats.gaps import Codes

    Tensors = Mapping[str, NDArray[np.generic]]
    Shapes = dict[str, tuple[int, int]]

KIND = "delta"
_META = {"format", "kind", "class_word", "fingerprint", "mode", "recipe", "shapes"}
_PART = re.compile(r"[A-Za-z0-9_.-]{1,200}")
"""A site or text encoder, by `fullmatch`."""
_VECTORS = "vectors."


def encode_delta(delta: Delta) -> bytes:
    """Write a delta: about three bytes per neuron.

    Raises:
        NotSavedError: it is not one that could be read again: values that are not finite, indices out of order.
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
            f"the delta of class word {delta.class_word!r} cannot be kept: {err}",
            hint="learn it again; values that are not finite come from too high a rate",
        ) from err
    meta = {
        "format": FORMAT,
        "kind": KIND,
        "class_word": delta.class_word,
        "fingerprint": delta.fingerprint,
        "mode": str(delta.mode),
        "recipe": dict(delta.recipe),
        "shapes": {site: list(shape) for site, shape in delta.shapes.items()},
    }
    return pack(meta, tensors)


def decode_delta(data: bytes) -> Delta:
    """Read a delta, distrusting every part of it. Its arrays are its own, not views into the data.

    Raises:
        StoreDamagedError: with the part that is wrong.
        FormatTooNewError: written by a newer cnsctl.
    """
    try:
        meta, shapes, tensors = _opened(data)
        delta = Delta(
            shapes=shapes,
            indices=_indices(shapes, tensors),
            values={site: _halves(tensors, f"{site}.values") for site in shapes},
            vectors={e: _halves(tensors, f"{_VECTORS}{e}") for e in _encoders(shapes, tensors)},
            class_word=_text(meta, "class_word"),
            fingerprint=_text(meta, "fingerprint"),
            mode=Mode(_text(meta, "mode")),
            recipe=_recipe(meta),
        )
        _check(delta)
    except ValueError as err:
        raise _damaged(err) from err
    return delta


def read_indices(data: bytes) -> dict[str, NDArray[np.int64]]:
    """Read only which neurons a delta owns, per site, as strictly as all of it.

    Raises:
        StoreDamagedError, FormatTooNewError: as `decode_delta`.
    """
    try:
        _, shapes, tensors = _opened(data)
        return _indices(shapes, tensors)
    except ValueError as err:
        raise _damaged(err) from err


def _damaged(err: ValueError) -> StoreDamagedError:
    return StoreDamagedError(
        f"the delta is damaged: {err}", hint="restore it from a backup, or learn the concept again"
    )


def _opened(data: bytes) -> tuple[Mapping[str, object], Shapes, Tensors]:
    header = read_header(data)
    _check_format(header)
    if set(header.meta) != _META or header.meta["kind"] != KIND:
        raise ValueError(f"metadata: it is no {KIND}")
    shapes = _shapes(header.meta["shapes"])
    tensors = read_tensors(data, header)
    wanted = _names_of(shapes)
    if missing := sorted(wanted - set(tensors)):
        raise ValueError(f"tensors: {missing[0]!r} is missing")
    if extra := sorted(n for n in set(tensors) - wanted if not n.startswith(_VECTORS)):
        raise ValueError(f"tensors: {extra[0][:80]!r} does not belong there")
    return header.meta, shapes, tensors


def _check_format(header: Header) -> None:
    found = header.meta.get("format")
    if type(found) is not int or found < 1:
        raise ValueError(f"format: {str(found)[:40]!r} is no version")
    if found > FORMAT:
        raise FormatTooNewError(
            f"the delta has format {found}",
            note=f"written by a newer cnsctl; this one reads up to {FORMAT}",
            reason="upgrade",
        )


def _shapes(value: object) -> Shapes:
    if not isinstance(value, dict):
        raise ValueError("shapes: no table of sites")  # noqa: TRY004  decoding has one exception for all that is wrong
    for site, shape in value.items():
        if not _PART.fullmatch(site):  # before a message shows it
            raise ValueError(f"shapes: {site[:80]!r} is no name of a site")
        if not isinstance(shape, list) or len(shape) != 2 or any(type(n) is not int for n in shape):
            raise ValueError(f"shapes: {site[:80]!r} has no rows and columns")
    return {site: (shape[0], shape[1]) for site, shape in value.items()}


def _indices(shapes: Shapes, tensors: Tensors) -> dict[str, NDArray[np.int64]]:
    found = {}
    for site, (rows, columns) in shapes.items():
        codes = tensors[f"{site}.gaps"]
        if codes.dtype.kind != "u" or codes.ndim != 1:
            raise ValueError(f"{site}.gaps: no flat table of uint8 or uint16")
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
    """What the tensors of sites are called."""
    return {f"{site}.{half}" for site in sites for half in ("gaps", "values")}


def _text(meta: Mapping[str, object], key: str) -> str:
    value = meta[key]
    if not isinstance(value, str):
        raise ValueError(f"{key}: no text")  # noqa: TRY004  as above
    return value


def _recipe(meta: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    recipe = meta["recipe"]
    if not isinstance(recipe, dict):
        raise ValueError("recipe: no table")  # noqa: TRY004  as above
    return recipe


def _check(delta: Delta) -> None:
    """What holds for every delta, just learned or just read.

    Raises:
        ValueError: with the part that is wrong.
    """
    for key, text in (("class_word", delta.class_word), ("fingerprint", delta.fingerprint)):
        if not 1 <= len(text) <= 400 or not text.isprintable():
            raise ValueError(f"{key}: empty, too long, or with control characters")
    for key, value in delta.recipe.items():
        if not key.isprintable() or not _is_setting(value):
            raise ValueError(f"recipe: {key[:80]!r} is no setting")
    if not delta.shapes or set(delta.shapes) != set(delta.indices) or set(delta.shapes) != set(delta.values):
        raise ValueError("sites: shapes, indices and values do not name the same ones")
    for part in [*delta.shapes, *delta.vectors]:
        if not _PART.fullmatch(part):
            raise ValueError(f"sites and text encoders: {part[:80]!r} is no name of one")
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
        raise ValueError(f"{site}: {rows} × {columns} is no weight")
    if flat.ndim != 1 or flat.shape != values.shape:
        raise ValueError(f"{site}: {flat.shape} indices, {values.shape} values")
    if len(flat) and (flat[0] < 0 or flat[-1] >= rows * columns or not (flat[1:] > flat[:-1]).all()):
        raise ValueError(f"{site}: indices are not sorted, unique and below {rows * columns}")
    if values.dtype != np.float16 or not np.isfinite(values).all():
        raise ValueError(f"{site}: values are not finite numbers in float16")


def _check_vectors(vectors: Mapping[str, NDArray[np.float16]]) -> None:
    if len({len(table) if table.ndim == 2 else 0 for table in vectors.values()} - {0}) != 1:
        raise ValueError("vectors: every text encoder has the same number of them, at least one")
    for encoder, table in vectors.items():
        if table.ndim != 2 or table.size == 0 or table.dtype != np.float16 or not np.isfinite(table).all():
            raise ValueError(f"vectors of {encoder}: not finite numbers in float16, (vectors, width)")
