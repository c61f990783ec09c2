"""The files of an import: opened, identified and checked against a store, without a model.

Owns what a file brings and what it is refused for; must not know how its weights become neurons.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cnsctl import formats
from cnsctl.app.concepts import ORIGIN_FILES, ORIGIN_FORMAT
from cnsctl.app.requests import usable_class_word
from cnsctl.bases import registry
from cnsctl.concept import Delta, Mode
from cnsctl.data.names import check_name, near_name
from cnsctl.errors import (
    BaseModelError,
    DamagedFileError,
    InvalidNameError,
    StoreDamagedError,
    UnknownFormatError,
    UsageError,
)
from cnsctl.export_formats import ExportFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from cnsctl.formats.bundle import Bundle, BundledConcept
    from cnsctl.formats.contents import Incoming
    from cnsctl.store import Store

MAX_FILE_NAME = 200
"""Characters of a file's name that a record keeps."""

MAX_SETTINGS, MAX_TEXT, MAX_NUMBER = 100, 400, 1e15
"""Of a delta's recipe: entries, characters of each text, and size of each number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What to import."""

    files: Sequence[Path]
    """One file, or a file of weights and the file of its token embeddings."""
    name: str | None = None
    """Of the concept; by default from the file."""
    class_word: str | None = None
    budget: float | None = None
    """Share of the K/V weights that a concept of another program may change; by default the base model's."""
    kv_only: bool = False
    """Leave out what a file changes beside K and V of cross-attention."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Of a bundle: other names for its concepts."""
    replace: bool = False
    compute: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ComputeSettings` that the user gave."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrival:
    """A concept in a file."""

    name: str
    file: str
    """Name of the file, for messages."""
    class_word: str
    """Empty if its token embeddings stand alone."""
    origin: Mapping[str, str]
    """Where it comes from, as a record keeps it."""
    delta: Callable[[], Delta] | None = None
    """Reads the delta of a native file or a bundle."""
    content: Incoming | None = None
    """Of another program's file."""
    initial: str | None = None
    """Words whose embeddings it gets, because the file has none."""
    left_out: tuple[str, ...] = ()
    """Layers that the file changes too."""
    lost: float | None = None
    """Share of the norm of the file's changes in them, if it can be computed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _File:
    path: Path
    sha256: str
    content: Delta | Bundle | Incoming


def arrivals(store: Store, request: ImportRequest, held: ExitStack) -> list[Arrival]:
    """Open the files and check everything that needs no model.

    Args:
        store: that the concepts are for.
        request: the files, and what the user chose.
        held: keeps the files open: weights are read when they are needed.

    Raises:
        UsageError, UnknownFormatError: the files cannot be imported like this.
        DamagedFileError: one is not as a program writes it.
        BaseModelError: one is for another base model, or for merged mode.
    """
    from cnsctl.formats.bundle import Bundle
    from cnsctl.formats.contents import Incoming

    if not request.files:
        raise UsageError("no file to import", hint="give a file")
    opened = [_opened(store, path, held) for path in request.files]
    contents = [file.content for file in opened]
    if len(opened) == 1 and isinstance(contents[0], Bundle):
        _refuse_choices(request)
        return list(_of_bundle(store, request, opened[0], contents[0]))
    if request.renames:
        raise UsageError("only a bundle has names that can be changed", reason="import-rename")
    if len(opened) == 1 and isinstance(contents[0], Delta):
        _refuse_choices(request)
        check_delta(store, contents[0], shown_name(opened[0].path))
        return [_native(opened[0], contents[0], _name(request.name, [opened[0].path.stem.removesuffix(".delta")]))]
    foreign = [content for content in contents if isinstance(content, Incoming)]
    return [_foreign(store, request, opened, _joined(opened, foreign))]


def shown_name(path: Path) -> str:
    """The name of a file, for messages and records."""
    return path.name[:MAX_FILE_NAME]


def _opened(store: Store, path: Path, held: ExitStack) -> _File:
    if not str(path).isprintable():  # it would reach the terminal
        raise UsageError(f"name of a file with control characters: {str(path)[:MAX_FILE_NAME]!r}", hint="rename it")
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"not a file: {path}", reason="import-file")
        content = held.enter_context(formats.opened(path, store.base.sites))
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as err:
        raise UsageError(f"file not found: {path}", reason="import-file") from err
    except OSError as err:
        raise UsageError(f"cannot read {path}: {err.strerror}", reason="import-file") from err
    except BaseModelError as err:
        raise _other_family(store, path, err) from err
    return _File(path=path, sha256=digest, content=content)


def _refuse_larger(store: Store, shown: str, n_bytes: int) -> None:
    """Refuse a delta that is too large for the base model, before it is read."""
    from cnsctl.formats.delta import most_bytes

    if n_bytes > most_bytes(store.base.sites):
        raise DamagedFileError(
            f"the delta is too large for the base model: {shown}: {n_bytes} bytes",
            hint="import it into a store on its own base model",
        )


def _other_family(store: Store, path: Path, err: BaseModelError) -> BaseModelError:
    """The same error with both base models in it."""
    from cnsctl.formats.survey import made_for
    from cnsctl.formats.tensor_file import open_file

    with open_file(path) as file:
        family = made_for(file.header)
    what = f"{shown_name(path)} is for another base model" + ("" if family is None else f": {family}")
    return BaseModelError(what, note=f"the store is on {_described(store)}; {err.note}", reason="import-base")


def _described(store: Store) -> str:
    """The base model of a store with its family: "pocket (Stable Diffusion 1.x or 2.x, text width 256)"."""
    titles = {family.name: family.title for family in registry.FAMILIES}
    width = next(iter(store.base.sites.values()))[1]
    return f"{store.base.name} ({titles.get(store.base.family, store.base.family)}, text width {width})"


def check_delta(store: Store, delta: Delta, shown: str, *, base: str | None = None) -> None:
    """Refuse a delta that this store cannot use.

    Args:
        store: that it is for.
        delta: of a native file or a bundle.
        shown: the file, for messages.
        base: name of its base model, if the file says it.

    Raises:
        BaseModelError: it was trained on another base model, or in merged mode.
        DamagedFileError: it has the fingerprint of this base model, but other sites.
    """
    own = store.base
    if delta.fingerprint != own.fingerprint:
        theirs = delta.fingerprint[:12] if base is None else f"{base} {delta.fingerprint[:12]}"
        raise BaseModelError(
            f"{shown} was trained on another base model: {theirs}",
            note=f"the store is on {own.name} {own.fingerprint[:12]}",
            reason="import-base",
        )
    fault = None if dict(delta.shapes) == dict(own.sites) else "its sites are not those of its base model"
    fault = fault or (None if not set(delta.class_word) & set("<>") else "its class word contains < or >")
    fault = fault or _recipe_fault(delta.recipe)
    if fault is not None:
        raise DamagedFileError(f"{shown} is damaged: {fault}", hint="export it again")
    if delta.mode is Mode.MERGED:
        raise BaseModelError(
            f"{shown} was trained in merged mode",
            note="its values contain the other concepts of its store, so they mean nothing elsewhere",
            hint="train the concept again in this store",
        )


def _recipe_fault(recipe: Mapping[str, str | int | float | bool]) -> str | None:
    """What keeps the recipe of a delta out of the catalogue, which lists it; None if nothing does."""
    if len(recipe) > MAX_SETTINGS:
        return f"its recipe has {len(recipe)} settings, {MAX_SETTINGS} allowed"
    texts = [*recipe, *(value for value in recipe.values() if isinstance(value, str))]
    if any(len(text) > MAX_TEXT for text in texts):
        return f"a text of its recipe has more than {MAX_TEXT} characters"
    numbers = [value for value in recipe.values() if not isinstance(value, str)]
    return None if all(abs(value) < MAX_NUMBER for value in numbers) else "a number of its recipe is too large"


def _refuse_choices(request: ImportRequest) -> None:
    if request.class_word is not None or request.budget is not None or request.kv_only:
        raise UsageError("a delta brings its class word and its neurons", reason="import-own")


def _of_bundle(store: Store, request: ImportRequest, file: _File, bundle: Bundle) -> Iterator[Arrival]:
    from cnsctl.formats.delta import read

    names = [concept.name for concept in bundle.concepts]
    if request.name is not None and len(names) > 1:
        raise UsageError(f"the bundle contains {len(names)} concepts: {_listed(names)}", reason="import-names")
    if unknown := [name for name in request.renames if name not in names]:
        raise UsageError(
            f"the bundle does not contain {unknown[0][:80]!r}",
            note=f"it contains {_listed(names)}",
            reason="import-rename",
        )
    if bundle.base.fingerprint != store.base.fingerprint:
        raise BaseModelError(
            f"{shown_name(file.path)} was made on another base model: {bundle.base.name} {bundle.base.fingerprint[:12]}",
            note=f"the store is on {store.base.name} {store.base.fingerprint[:12]}",
            reason="import-base",
        )
    for concept in bundle.concepts:
        _refuse_larger(store, f"{shown_name(file.path)}: {concept.name}", concept.bytes)

        def delta(said: BundledConcept = concept) -> Delta:
            name = said.name
            try:
                found = read(bundle.read(name))
            except StoreDamagedError as err:
                what = f"{shown_name(file.path)} is damaged: {name}: {err.what.partition(': ')[2]}"
                raise DamagedFileError(what, hint="download it or export it again") from err
            check_delta(store, found, f"{shown_name(file.path)}: {name}", base=bundle.base.name)
            if (found.class_word, found.mode, found.n_neurons) != (said.class_word, said.mode, said.neurons):
                raise DamagedFileError(
                    f"{shown_name(file.path)} is damaged: its manifest does not describe the delta of {name}",
                    hint="download it or export it again",
                )
            return found

        name = check_name(request.name or request.renames.get(concept.name, concept.name))
        yield Arrival(
            name=name,
            file=shown_name(file.path),
            class_word=concept.class_word,
            origin=_origin(ExportFormat.BUNDLE, file),
            delta=delta,
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (" …" if len(names) > 20 else "")


def _native(file: _File, delta: Delta, name: str) -> Arrival:
    return Arrival(
        name=name,
        file=shown_name(file.path),
        class_word=delta.class_word,
        origin=_origin(ExportFormat.NATIVE, file),
        delta=lambda: delta,
    )


def _joined(opened: Sequence[_File], contents: Sequence[Incoming]) -> Incoming:
    """The content of one file, or of a file of weights and the file of its token embeddings."""
    if len(opened) == len(contents) == 1:
        return contents[0]
    weights = [content for content in contents if content.weights or content.also]
    embeddings = [content for content in contents if not (content.weights or content.also)]
    if len(contents) != len(opened) or (len(weights), len(embeddings)) != (1, 1) or weights[0].vectors:
        raise UsageError(
            f"{len(opened)} files are not one concept",
            note="together, only a file of weights and the file of its token embeddings can be imported",
            hint="import them one at a time",
        )
    token = embeddings[0].token or weights[0].token
    metadata = {**embeddings[0].metadata, **weights[0].metadata}
    return replace(weights[0], vectors=embeddings[0].vectors, token=token, metadata=metadata)


def _foreign(store: Store, request: ImportRequest, opened: Sequence[_File], content: Incoming) -> Arrival:
    main = next((f for f in opened if getattr(f.content, "weights", None)), opened[0])
    shown = shown_name(main.path)
    if content.also and not request.kv_only:
        raise UnknownFormatError(
            f"{shown} changes more than K and V of cross-attention",
            note=f"it also changes {_kinds(content)}",
            reason="import-also" if content.weights else "import-nothing",
        )
    if not content.weights and not content.vectors:
        raise UnknownFormatError(
            f"{shown} changes nothing that a concept can hold",
            note="a concept is K and V of cross-attention, and token embeddings",
            reason="import-nothing",
        )
    with_vectors = next((f for f in opened if getattr(f.content, "vectors", None)), main)
    _check_widths(store, content, shown_name(with_vectors.path))
    class_word, initial = _words(request, content, shown)
    stems = [f.path.stem for f in (main, *opened)]
    return Arrival(
        name=_name(request.name, [*filter(None, [content.token]), *stems]),
        file=shown,
        class_word=class_word,
        origin=_origin(content.format, main, *(f for f in opened if f is not main)),
        content=content,
        initial=initial,
        left_out=content.also,
        lost=_lost(store, main.path) if content.also else None,
    )


def _kinds(content: Incoming) -> str:
    from cnsctl.formats.survey import kinds

    return kinds(content.also)


def _lost(store: Store, path: Path) -> float | None:
    from cnsctl.formats.survey import share_left_out
    from cnsctl.formats.tensor_file import open_file

    with open_file(path) as file:
        return share_left_out(file, store.base.sites)


def _check_widths(store: Store, content: Incoming, shown: str) -> None:
    """Refuse token embeddings of another family, for families that join their text encoders' outputs to X."""
    from cnsctl.formats.survey import BY_WIDTH

    widths = [table.shape[1] for table in content.vectors.values()]
    text = next(iter(store.base.sites.values()))[1]
    if widths and registry.named(store.base.family).has_clip_text and sum(widths) != text:
        family = BY_WIDTH.get(sum(widths))
        raise BaseModelError(
            f"{shown} has token embeddings for another base model" + ("" if family is None else f": {family}"),
            note=f"their width is {' + '.join(map(str, widths))}; the store is on {_described(store)}",
            reason="import-base",
        )


def _words(request: ImportRequest, content: Incoming, shown: str) -> tuple[str, str | None]:
    """The class word, and the words whose embeddings the concept gets if the file has no token embeddings.

    These words then are the concept's own tokens, so that no class word follows: `<dog>` is read as "dog".
    """
    from cnsctl.formats.modelspec import CLASS_WORD

    given = request.class_word
    if given is None and CLASS_WORD in content.metadata:
        given = content.metadata[CLASS_WORD]
    word = "" if given is None else usable_class_word(given)
    if content.vectors:
        return word, None
    if not word:
        raise UsageError(
            f"{shown} has no token embeddings, and no class word to take their place",
            note="a concept needs tokens on which its weights act",
            reason="import-class",
        )
    return "", word


def _name(given: str | None, texts: Sequence[str]) -> str:
    if given is not None:
        return check_name(given)
    if (found := next((name for text in texts if (name := near_name(text)) is not None), None)) is None:
        raise InvalidNameError(f"no name for the concept in {texts[-1][:80]!r}", reason="import-name")
    return found


def _origin(form: str, *files: _File) -> dict[str, str]:
    found = {ORIGIN_FORMAT: str(form)}
    for (name, sha), file in zip(ORIGIN_FILES, files, strict=False):
        found |= {name: shown_name(file.path), sha: file.sha256}
    return found
