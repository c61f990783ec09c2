"""`export`: concepts as files for other tools.

Owns the workflow and which files there are; must not know what is in a file, or terminals.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cnsctl import results
from cnsctl.app import export_lines
from cnsctl.app.concepts import require
from cnsctl.app.export_contents import ALONE, DENSE, read, with_weights
from cnsctl.app.export_files import check_places, check_space, file_name, place_of, write_file
from cnsctl.app.output_paths import STDOUT
from cnsctl.bases import registry
from cnsctl.concept import Mode
from cnsctl.errors import UsageError
from cnsctl.events import Event, Phase, Warn
from cnsctl.export_formats import ExportFormat
from cnsctl.settings import ExportSettings, complete

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from cnsctl.app.export_contents import Content, Exported
    from cnsctl.app.session import Session
    from cnsctl.store import ConceptRecord, Store

LARGE = 500_000_000
"""Bytes; the size of a larger file is printed as a warning before it is written."""

ANY_FAMILY = {ExportFormat.NATIVE, ExportFormat.BUNDLE, ExportFormat.CHECKPOINT}

OPTIONS: Mapping[str, set[ExportFormat]] = {
    "rank": {ExportFormat.LORA},
    "keys": {ExportFormat.LORA, ExportFormat.LORA_EXACT},
}
"""Settings that belong to some formats only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What the user asked for."""

    names: Sequence[str]
    output: Path | None = None
    """A file, a folder, or `-`; by default the current folder."""
    force: bool = False
    """Overwrite existing files."""
    measure: bool = True
    """Measure the error removed through a fitted LoRA."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ExportSettings` that the user gave."""
    compute: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ComputeSettings` that the user gave."""
    stdout: BinaryIO | None = None
    """Where a file goes whose output is `-`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _File:
    """One file to write."""

    path: Path
    content: Content
    keep_equal: bool = False
    """A file with the same bytes is not an obstacle: each format writes the same embedding."""


def export(
    store: Store, request: ExportRequest, *, session: Session | None = None
) -> Generator[Event, None, results.ExportResult]:
    """Write concepts as files for other tools.

    Raises:
        UsageError: the place, the format or the settings do not fit together, or a file exists already.
        ConceptNotFoundError: a concept is missing.
        StoreDamagedError: a concept cannot be read.
        BaseModelError: the base model is missing, or another one is there.
        DiskError: full, read-only or failing.
    """
    settings: ExportSettings = complete(ExportSettings, {}, request.settings)
    records = _asked(store, request, settings.format)
    groups = _groups(store, records, settings.format)
    place = place_of(
        request.output, settings.format, files=len(groups), beside=settings.format not in ALONE, force=request.force
    )
    paths = [place.path([r["name"] for r in group], settings.format) for group in groups]
    _refuse_own(store, paths)
    if settings.format is ExportFormat.CHECKPOINT:
        from cnsctl.app.export_checkpoint import export_checkpoint

        return (yield from export_checkpoint(store, records, place))
    check_places(paths, force=request.force)
    found = yield from read(store, records, settings.format)
    beside = [file for pair in zip(groups, paths, strict=True) for file in _beside(found, *pair, settings)]
    check_places([*paths, *_changed(beside)], force=request.force)  # a fit takes minutes
    with ExitStack() as held:
        found = yield from with_weights(found, settings, request, session=session, held=held)
        files = list(_files(found, groups, paths, settings))
        check_places(_changed(files), force=request.force)
        yield from _sized(files)
        for file in files:
            yield Phase(name="write the file" if file.path == STDOUT else f"write {file.path.name}")
            _write(file, request)
    return _result(store, settings, found, files, groups)


def _asked(store: Store, request: ExportRequest, form: ExportFormat) -> Sequence[ConceptRecord]:
    """The records of the concepts, in training order.

    Raises:
        UsageError: without names or weights, or with settings that the format does not have, or on a base model that it
            cannot describe.
    """
    if not request.names:
        raise UsageError("no name", hint="give the names of the concepts to export")
    for name, forms in OPTIONS.items():
        if name in request.settings and form not in forms:
            raise UsageError(
                f"{name} is not a setting of the format {form}",
                note=f"it belongs to {', '.join(sorted(forms))}",
                reason="export-setting",
                name=name,
            )
    if form not in ANY_FAMILY and not registry.named(store.base.family).has_clip_text:
        raise UsageError(
            f"no {form} for a concept of the family {store.base.family}",
            note=f"no other tool reads it; possible: {', '.join(sorted(ANY_FAMILY))}",
            reason="export-family",
        )
    records = require(store, request.names)
    bare = [record["name"] for record in records if not record["neurons"]]
    if bare and form not in ALONE and store.mode is not Mode.MERGED:
        raise UsageError(
            f"no weights to export: {', '.join(bare)}", note="only token embeddings", reason="export-no-weights"
        )
    return records


def _groups(store: Store, records: Sequence[ConceptRecord], form: ExportFormat) -> list[Sequence[ConceptRecord]]:
    """The concepts of each file."""
    if form in {ExportFormat.BUNDLE, ExportFormat.CHECKPOINT} or (form in DENSE and store.mode is Mode.MERGED):
        return [records]
    return [[record] for record in records]


def _refuse_own(store: Store, paths: Sequence[Path]) -> None:
    """Refuse to replace the store, the base model that it reads, or a file or folder of them or around them.

    Raises:
        UsageError: whatever may be overwritten.
    """
    read = [store.path, *([] if store.base.path is None else [Path(store.base.path)])]
    own = {place for path in read for place in (path.absolute(), path.resolve())}
    for path in paths:
        at = path.parent.resolve() / path.name  # of a link, the link itself is replaced
        if any(at == one or at in one.parents or one in at.parents for one in own):
            raise UsageError(f"the store needs what is at {path}", hint="export to another place")


def _files(
    found: Exported, groups: Sequence[Sequence[ConceptRecord]], paths: Sequence[Path], settings: ExportSettings
) -> Iterator[_File]:
    """The files of each group, and the embeddings beside them."""
    for group, path in zip(groups, paths, strict=True):
        names = [record["name"] for record in group]
        yield _File(path=path, content=found.content(names, path, settings))
        yield from _beside(found, group, path, settings)


def _beside(found: Exported, group: Sequence[ConceptRecord], path: Path, settings: ExportSettings) -> Iterator[_File]:
    """The embeddings beside one file."""
    if settings.format in ALONE:
        return
    for record in group:
        beside = path.parent / file_name([record["name"]], ExportFormat.EMBEDDING)
        yield _File(path=beside, content=found.embedding(record["name"], beside), keep_equal=True)


def _changed(files: Sequence[_File]) -> list[Path]:
    """The places of all but the embeddings that are there already."""
    return [file.path for file in files if not (file.keep_equal and _is_equal(file))]


def _is_equal(file: _File) -> bool:
    """Is the file there with these bytes?"""
    import io

    if not file.path.is_file() or file.path.stat().st_size != file.content.size:
        return False
    stream = io.BytesIO()
    file.content.write(stream)
    return file.path.read_bytes() == stream.getvalue()


def _sized(files: Sequence[_File]) -> Iterator[Event]:
    """Refuse what the disks have no room for, and warn of large files."""
    for folder in {file.path.parent for file in files if file.path != STDOUT}:
        check_space(folder, sum(file.content.size for file in files if file.path.parent == folder))
    for file in files:
        if file.content.size > LARGE:
            yield Warn(text=f"{file.path} takes {file.content.size / 1e9:.2f} GB")


def _write(file: _File, request: ExportRequest) -> None:
    if file.path == STDOUT:
        if request.stdout is None:
            raise UsageError("no stream to write to")
        file.content.write(request.stdout)
        request.stdout.flush()
    elif not (file.keep_equal and _is_equal(file)):
        write_file(file.path, file.content.write, force=request.force)


def _result(
    store: Store,
    settings: ExportSettings,
    found: Exported,
    files: Sequence[_File],
    groups: Sequence[Sequence[ConceptRecord]],
) -> results.ExportResult:
    return results.ExportResult(
        store=str(store.path),
        format=str(settings.format),
        concepts=tuple(record["name"] for group in groups for record in group),
        files=tuple(
            results.ExportedFile(
                path=str(f.path), kind=f.content.kind, concepts=f.content.concepts, bytes=_written_bytes(f)
            )
            for f in files
        ),
        fidelity=tuple(found.fidelity.values()),
        use=tuple(_use(found, files, groups, settings)),
    )


def _written_bytes(file: _File) -> int:
    return file.content.size if file.path == STDOUT else file.path.stat().st_size


def _use(
    found: Exported, files: Sequence[_File], groups: Sequence[Sequence[ConceptRecord]], settings: ExportSettings
) -> Iterator[results.UseIn]:
    main = [file.path for file in files if not file.keep_equal]
    for group, path in zip(groups, main, strict=True):
        if path == STDOUT:
            continue
        if settings.format is ExportFormat.BUNDLE:
            yield from export_lines.bundle_lines(path.as_posix())
            continue
        for record in group:
            name, word = record["name"], record["class_word"]
            if settings.format is ExportFormat.NATIVE:
                yield from export_lines.native_lines(path.as_posix(), name)
                continue
            only = settings.format is ExportFormat.EMBEDDING
            written = export_lines.Written(
                name=name,
                class_word=word,
                weights=None if only else path,
                embedding=path if only else path.parent / file_name([name], ExportFormat.EMBEDDING),
                encoders=found.n_encoders,
            )
            yield from export_lines.lines(settings.format, settings.keys, written)
