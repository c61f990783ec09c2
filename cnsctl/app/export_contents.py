"""What is in exported files: from records of a store to tensors and texts.

Owns the step from concepts to `formats`; must not know where files are written, or terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from cnsctl import results
from cnsctl.app.export_files import TRIGGER
from cnsctl.app.stores import damage_inside, open_base
from cnsctl.concept import Mode
from cnsctl.events import Event, Note
from cnsctl.export_formats import DEFAULT_KEYS, ExportFormat

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import ExitStack
    from pathlib import Path

    from cnsctl.app.export import ExportRequest
    from cnsctl.app.export_fit import Fits
    from cnsctl.app.session import Session
    from cnsctl.app.site_weights import BaseWeights
    from cnsctl.concept import Delta
    from cnsctl.export_formats import KeyStyle
    from cnsctl.formats.contents import Outgoing, SiteWeights
    from cnsctl.settings import ExportSettings
    from cnsctl.store import ConceptRecord, Store

ALONE = {ExportFormat.EMBEDDING, ExportFormat.NATIVE, ExportFormat.BUNDLE, ExportFormat.CHECKPOINT}
"""Formats without an embedding in a second file."""

DENSE = {ExportFormat.LORA_EXACT, ExportFormat.DIFF, ExportFormat.KV, ExportFormat.CUSTOM_DIFFUSION}
"""Formats with the whole difference. In merged mode it is that of all concepts, so that one file is enough."""

_KINDS = {ExportFormat.LORA: "lora", ExportFormat.LORA_EXACT: "lora", ExportFormat.EMBEDDING: "embedding"}
"""What a file is called in results, if not `weights`."""

Write = Callable[[BinaryIO], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Content:
    """What one file contains."""

    kind: str
    concepts: tuple[str, ...]
    size: int
    """Bytes, known before anything is written."""
    write: Write


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exported:
    """The concepts of an export, ready to be written."""

    store: Store
    records: Mapping[str, ConceptRecord]
    deltas: Mapping[str, Delta]
    """Of these concepts; in merged mode of all, in training order, if weights are written."""
    weights: BaseWeights | None
    fits: Fits | None

    @property
    def fidelity(self) -> Mapping[str, results.Fidelity]:
        """Of weights: a fitted LoRA as measured; a whole difference does all that the delta does, on every word."""
        if self.fits is not None:
            return self.fits.fidelity
        return {} if self.weights is None else {name: _whole(name) for name in self.records}

    @property
    def n_encoders(self) -> int:
        """Text encoders that have an embedding of each concept."""
        return len(next(iter(self.deltas.values())).vectors) if self.deltas else 0

    def content(self, names: Sequence[str], path: Path, settings: ExportSettings) -> Content:
        """The file with these concepts."""
        form = settings.format
        if form is ExportFormat.NATIVE:
            return _native(self.store, self.records[names[0]])
        if form is ExportFormat.BUNDLE:
            from cnsctl.app.export_bundle import bundle

            return bundle(self.store, [self.records[name] for name in names])
        if form is ExportFormat.EMBEDDING:
            return self.embedding(names[0], path)
        return _tensors(form, self._outgoing(names, path), settings.keys, self._inside(names))

    def embedding(self, name: str, path: Path) -> Content:
        """The file with the token embeddings of one concept."""
        return _tensors(ExportFormat.EMBEDDING, self._outgoing([name], path, vectors=True), DEFAULT_KEYS, (name,))

    def _inside(self, names: Sequence[str]) -> tuple[str, ...]:
        """The concepts whose deltas are in a file of weights."""
        return tuple(self.deltas) if self.store.mode is Mode.MERGED else tuple(names)

    def _outgoing(self, names: Sequence[str], path: Path, *, vectors: bool = False) -> Outgoing:
        from cnsctl.formats.contents import Outgoing

        base, folder, first = self.store.base, open_base(self.store), self.records[names[0]]
        with damage_inside(self.store):
            (height, width), prediction = folder.resolution, folder.parameterization.prediction
        deltas = [self.deltas[name] for name in self._inside(names)]
        weights, fitted = self.weights, None if self.fits is None else self.fits.factors[names[0]]
        return Outgoing(
            family=base.family,
            width=next(iter(base.sites.values()))[1],
            prediction=prediction,
            resolution=(width, height),
            shapes=base.sites,
            site=_nothing if weights is None else lambda site: weights.site(site, deltas),
            factors=None if fitted is None else fitted.__getitem__,
            vectors=self.deltas[names[0]].vectors if vectors else {},
            token=f"<{first['name']}>",
            class_word=first["class_word"],
            metadata=self._texts(names, path, with_weights=not vectors),
        )

    def _texts(self, names: Sequence[str], path: Path, *, with_weights: bool) -> dict[str, str]:
        """What the file says beside the format's own texts: what to type, and what else is inside."""
        words = {name: self.records[name]["class_word"] for name in names}
        phrases = {
            "ComfyUI": "embedding:{0} {1}", "A1111 and Forge": "{0} {1}", "InvokeAI": "<{0}> {1}",
        }  # fmt: skip
        shown = {
            tool: ", ".join(phrase.format(TRIGGER.format(name), word).rstrip() for name, word in words.items())
            for tool, phrase in phrases.items()
        }
        shown["diffusers"] = ", ".join(f"<{name}> {word}".rstrip() for name, word in words.items())
        found = {
            "modelspec.title": ", ".join(names),
            "modelspec.trigger_phrase": shown["A1111 and Forge"],
            "modelspec.usage_hint": "; ".join(f"{tool}: {phrase}" for tool, phrase in shown.items()),
            "modelspec.date": max(self.records[name]["created"] for name in names),
            "ss_output_name": path.stem,
        }
        if with_weights and self.store.mode is Mode.MERGED:
            found["cnsctl.contains"] = " ".join(self.deltas)
        return found


def read(store: Store, records: Sequence[ConceptRecord], form: ExportFormat) -> Generator[Event, None, Exported]:
    """Read the deltas that the format needs.

    Args:
        store: of the concepts.
        records: of the concepts that were asked for.
        form: the format.
    """
    inside = store.concepts() if form not in ALONE and store.mode is Mode.MERGED else records
    if others := [r["name"] for r in inside if r not in records]:
        yield Note(text=f"merged mode: the weights also contain {', '.join(f'<{name}>' for name in others)}")
    needed = form not in {ExportFormat.NATIVE, ExportFormat.BUNDLE}
    deltas = {record["name"]: store.delta(record) for record in inside} if needed else {}
    by_name = {record["name"]: record for record in records}
    return Exported(store=store, records=by_name, deltas=deltas, weights=None, fits=None)


def with_weights(
    found: Exported,
    settings: ExportSettings,
    request: ExportRequest,
    *,
    session: Session | None,
    held: ExitStack,
) -> Generator[Event, None, Exported]:
    """Add what else the format needs: the base model's weights, or fitted factors.

    Args:
        found: with the deltas.
        settings: with the format.
        request: what else was asked for.
        session: with the base model, if it is loaded.
        held: keeps files open until all is written.
    """
    form, store = settings.format, found.store
    if form is ExportFormat.LORA:
        from cnsctl.app.export_fit import fitting

        fits = yield from fitting(store, list(found.records.values()), settings.rank, request, session)
        return replace(found, fits=fits)
    if form not in DENSE:
        return found
    if store.mode is Mode.TOKEN:
        yield Note(
            text=f"{form} acts on every word, also of negative prompts; here a delta acts on its own tokens alone"
        )
    from cnsctl.app.site_weights import opened_weights

    return replace(found, weights=held.enter_context(opened_weights(store)))


def _whole(name: str) -> results.Fidelity:
    return results.Fidelity(
        name=name, kept=100.0, leak=100.0, error_removed=None, error_removed_here=None, measured_on=None
    )


def _native(store: Store, record: ConceptRecord) -> Content:
    """The delta as the store has it, verified before the first file is written, and again when it is written."""

    def write(stream: BinaryIO) -> None:
        stream.write(store.blob(record["delta"]))

    size = len(store.blob(record["delta"]))
    return Content(kind="concept", concepts=(record["name"],), size=size, write=write)


def _tensors(form: ExportFormat, outgoing: Outgoing, keys: KeyStyle, concepts: tuple[str, ...]) -> Content:
    """A safetensors file of this format."""
    from cnsctl.formats import tensor_file, writer

    module = writer(form)
    found, texts = module.tensors(outgoing, keys), module.metadata(outgoing, keys)
    return Content(
        kind=_KINDS.get(form, "weights"),
        concepts=concepts,
        size=tensor_file.byte_size(found, texts),
        write=lambda stream: tensor_file.write(stream, found, texts),
    )


def _nothing(site: str) -> SiteWeights:
    raise AssertionError(site)  # these formats do not contain weights
