"""LoRA: differences of low rank. Written with fitted factors; read from any trainer, with its scale.

A LoRA changes a weight by alpha / rank · up · down, and by up · down where the file has no alpha. diffusers gives one rank
and one alpha to all sites, and patterns for the others, which older versions compute wrongly. So files that are written
have one rank.

Owns the tensors of a LoRA; must not know how factors are fitted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnsctl.errors import UsageError
from cnsctl.export_formats import DEFAULT_KEYS, ExportFormat, KeyStyle
from cnsctl.formats import modelspec
from cnsctl.formats.contents import Factors, Incoming
from cnsctl.formats.embedding import ENCODERS
from cnsctl.formats.foreign import by_site, check_shape, table_of, token_of
from cnsctl.formats.tensor_file import Tensor, shown
from cnsctl.key_names import Leaf, Stem, key_table, split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnsctl.formats.contents import Outgoing
    from cnsctl.formats.tensor_file import Header, TensorFile

NAME = ExportFormat.LORA

_BUNDLED = "bundle_emb."
"""Before the token embeddings that some trainers put into a LoRA."""

_MOST_RANK = 1 << 14
"""More than any site has rows or columns. It bounds the memory for factors, whatever size a file announces."""

_MOST_PATTERNS = 1 << 12
"""Entries of peft's `alpha_pattern`. Each is compared with each site; a LoRA of the whole UNet of SDXL has under 1,000."""

_PEFT = "lora_adapter_metadata"
"""Text in which diffusers and peft keep rank and alpha."""


def matches(header: Header) -> bool:
    """Is a file with this header a LoRA, of whatever base model?"""
    return any(split(key)[1] is Leaf.DOWN for key in header.entries)


def read(file: TensorFile, shapes: Mapping[str, tuple[int, int]]) -> Incoming:
    """Read a LoRA of the base model whose sites have these shapes.

    Raises:
        DamagedFileError, BaseModelError, UnknownFormatError: as `foreign.by_site`.
    """
    vectors, token, skip = _bundled(file)
    found = by_site(file, shapes, skip=skip)
    settings = _peft_settings(file.metadata)
    patterns = settings.get("alpha_pattern")
    if isinstance(patterns, dict) and len(patterns) > _MOST_PATTERNS:
        raise file.damaged(f"alpha_pattern: {len(patterns)} entries, {_MOST_PATTERNS} allowed")
    pairs = {site: _pair(file, site, parts, settings) for site, parts in found.parts.items()}
    for site, pair in pairs.items():
        check_shape(site, (pair.rows, pair.columns), shapes[site])
    return Incoming(
        format=str(NAME),
        weights={site: _reader(file, pair) for site, pair in pairs.items()},
        shapes={site: shapes[site] for site in pairs},
        differences=True,
        vectors=vectors,
        token=token_of(file.metadata) or token,
        also=found.also,
        metadata=modelspec.readable(file.metadata),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    down: str
    up: str
    rows: int
    rank: int
    columns: int
    scale: float


def _pair(file: TensorFile, site: str, parts: Mapping[Leaf, str], settings: Mapping[str, object]) -> _Pair:
    missing = {Leaf.DOWN, Leaf.UP} - set(parts)
    if missing:
        raise file.damaged(f"{site}: a factor of the LoRA is missing: {' and '.join(sorted(missing))}")
    if rest := set(parts) - {Leaf.DOWN, Leaf.UP, Leaf.ALPHA}:
        raise file.damaged(f"{site}: a LoRA and another change: {shown(parts[min(rest)])}")
    down, up = (_flat(file, parts[leaf]) for leaf in (Leaf.DOWN, Leaf.UP))
    if down[0] != up[1] or not down[0]:
        raise file.damaged(f"{site}: factors of rank {down[0]} and {up[1]}")
    if down[0] > _MOST_RANK:
        raise file.damaged(f"{site}: factors of rank {down[0]}, {_MOST_RANK} allowed")
    alpha = parts.get(Leaf.ALPHA)
    scale = _peft_scale(settings, site, down[0]) if alpha is None else file.number(alpha) / down[0]
    names = {"down": parts[Leaf.DOWN], "up": parts[Leaf.UP]}
    return _Pair(**names, rows=up[0], rank=down[0], columns=down[1], scale=scale)


def _flat(file: TensorFile, name: str) -> tuple[int, int]:
    """The shape of a factor. Some trainers write those of a linear layer as 1 × 1 convolutions."""
    shape = file.entries[name].shape
    if len(shape) < 2 or set(shape[2:]) - {1}:
        raise file.damaged(f"tensor {shown(name)}: {list(shape)} is not the shape of a factor")
    return shape[0], shape[1]


def _reader(file: TensorFile, pair: _Pair) -> Callable[[], NDArray[np.float32]]:
    def difference() -> NDArray[np.float32]:
        up = file.read(pair.up).reshape(pair.rows, pair.rank)
        down = file.read(pair.down).reshape(pair.rank, pair.columns)
        with np.errstate(over="ignore", invalid="ignore"):
            product: NDArray[np.float32] = up @ down * np.float32(pair.scale)
        if not np.isfinite(product).all():
            raise file.damaged(f"{shown(pair.down)}: the difference is not finite")
        return product

    return difference


def _peft_settings(metadata: Mapping[str, str]) -> Mapping[str, object]:
    """Rank and alpha as diffusers and peft record them; nothing if the text is not such a record."""
    try:
        found = json.loads(metadata.get(_PEFT, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    unet = {key.removeprefix("unet."): value for key, value in found.items() if key.startswith("unet.")}
    return unet or found


def _peft_scale(settings: Mapping[str, object], site: str, rank: int) -> float:
    """How peft scales a site: by alpha / rank, by alpha / √rank with rank stabilization, or by 1 without a record."""
    alpha = settings.get("lora_alpha")
    patterns = settings.get("alpha_pattern")
    for name, value in patterns.items() if isinstance(patterns, dict) else ():
        own = name.removeprefix("^")
        if site == own or site.endswith(f".{own}"):
            alpha = value
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e6:
        return 1.0
    return float(alpha / (rank**0.5 if settings.get("use_rslora") is True else rank))


def _bundled(file: TensorFile) -> tuple[dict[str, NDArray[np.float32]], str | None, frozenset[str]]:
    """The token embeddings in a LoRA, their token, and their tensors, if the file has those of one concept."""
    encoders = {"string_to_param.*": "text_encoder", "emb_params": "text_encoder", **ENCODERS}
    found: dict[str, str] = {}
    names = set()
    for key in file.entries:
        if key.startswith(_BUNDLED):
            name, _, leaf = key.removeprefix(_BUNDLED).partition(".")
            names.add(name)
            if leaf in encoders:
                found[encoders[leaf]] = key
    if len(names) != 1 or not found:
        return {}, None, frozenset()
    vectors = {encoder: table_of(file, key) for encoder, key in sorted(found.items())}
    token = names.pop()
    return vectors, token[:200] if token.isprintable() else None, frozenset(found.values())


def tensors(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> list[Tensor]:
    """The tensors of a fitted LoRA.

    Raises:
        UsageError: the concept has no fitted factors.
    """
    factors = concept.factors
    if factors is None:
        raise UsageError("no LoRA was fitted to the concept")
    return factor_tensors(concept.shapes, factors, max(len(factors(site).down) for site in concept.shapes), keys)


def factor_tensors(
    shapes: Mapping[str, tuple[int, int]], factors: Callable[[str], Factors], rank: int, keys: KeyStyle
) -> list[Tensor]:
    """The tensors of a LoRA with one rank at all sites. Factors of a lower rank are filled with zeros."""
    table = key_table(shapes)
    stem, down, up = {
        KeyStyle.KOHYA: (Stem.KOHYA, "lora_down", "lora_up"),
        KeyStyle.DIFFUSERS: (Stem.UNET, "lora_A", "lora_B"),
    }[keys]
    found = []
    for site, (rows, columns) in shapes.items():
        name = table.name(stem, site)
        found += [
            Tensor(name=f"{name}.{down}.weight", shape=(rank, columns), dtype="F16", make=_down(factors, site, rank)),
            Tensor(name=f"{name}.{up}.weight", shape=(rows, rank), dtype="F16", make=_up(factors, site, rank)),
        ]
        if keys is KeyStyle.KOHYA:  # some readers take a missing alpha for 1
            alpha = np.full((), rank, np.float32)
            found.append(Tensor(name=f"{name}.alpha", shape=(), dtype="F32", make=lambda alpha=alpha: alpha))  # type: ignore[misc]
    return found


def _down(factors: Callable[[str], Factors], site: str, rank: int) -> Callable[[], NDArray[np.generic]]:
    def make() -> NDArray[np.generic]:
        down = factors(site).down
        return np.pad(down, ((0, rank - len(down)), (0, 0)))

    return make


def _up(factors: Callable[[str], Factors], site: str, rank: int) -> Callable[[], NDArray[np.generic]]:
    def make() -> NDArray[np.generic]:
        up = factors(site).up
        return np.pad(up, ((0, 0), (0, rank - up.shape[1])))

    return make


def metadata(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> dict[str, str]:
    """The texts of the file."""
    found = [t for t in tensors(concept, keys) if split(t.name)[1] is Leaf.DOWN]
    return modelspec.adapter(concept, module="networks.lora", rank=found[0].shape[0])
