"""Repeating an image from its record: what has changed since, and whether a file was made by the request at hand.

Owns the comparison of records with a store; must not know models.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cnsctl import __version__
from cnsctl.app import made
from cnsctl.app.stores import open_base
from cnsctl.concept import Mode
from cnsctl.errors import CnsctlError, ConceptNotFoundError, UsageError
from cnsctl.events import Note, Warn
from cnsctl.settings import ComputeSettings, Dtype, GenerateSettings, checked, complete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cnsctl.app.generate_request import GenerateRequest
    from cnsctl.app.output_paths import Planned
    from cnsctl.app.session import Session
    from cnsctl.concept import Prompt
    from cnsctl.results import Made
    from cnsctl.store import Store


def refuse_missing(store: Store, request: GenerateRequest) -> None:
    """Refuse to repeat an image whose concept is missing: in the prompt, `@dog` would become a word.

    Raises:
        ConceptNotFoundError: with the concept that has the same delta now, if it was renamed.
    """
    if (like := request.like) is None or list(request.prompts) != [like.prompt] or store.mode is Mode.MERGED:
        return
    found = store.snapshot()
    for name, delta in like.concepts.items():
        if name not in found.names:
            renamed = [f"<{r['name']}>" for r in found.concepts if r["delta"] == delta]
            raise ConceptNotFoundError(
                f"concept not found: {name!r}",
                note=f"the image was generated with it{', and it was renamed since' if renamed else ''}",
                reason="concept-missing",
                near=renamed,
            )


def changes(store: Store, like: Made, prompts: Sequence[Prompt]) -> Iterator[Warn]:
    """What has changed in the store since the image was generated, so that the new one differs."""
    base = store.base
    if like.base.fingerprint != base.fingerprint:
        yield Warn(
            text=f"the image was generated on another base model: {like.base.name} {like.base.fingerprint[:12]}; "
            f"this store's is {base.name} {base.fingerprint[:12]}"
        )
    if like.mode != str(store.mode):
        yield Warn(text=f"the image was generated in {like.mode} mode; this store is in {store.mode} mode")
    acting = deltas(store, {m.name for prompt in prompts for m in prompt.mentions})
    for name, delta in acting.items():
        if name in like.concepts and like.concepts[name] != delta:
            yield Warn(text=f"<{name}> is another concept now: it was trained or imported again since the image")
    if store.mode is Mode.MERGED and acting.keys() != like.concepts.keys():
        differ = ", ".join(f"<{name}>" for name in sorted(acting.keys() ^ like.concepts.keys()))
        yield Warn(text=f"other concepts act in this store than then: {differ}")


def compute(request: GenerateRequest) -> Mapping[str, Any]:
    """Where to compute: as given, else as the image, if this machine has its device."""
    from cnsctl.bases import devices

    if (like := request.like) is None:
        return request.compute
    wanted = {"device": like.device, "dtype": like.dtype, "memory": like.memory, **request.compute}
    try:
        devices.choose(wanted["device"], wanted["dtype"])
    except UsageError:
        return request.compute
    return wanted


def computed_differently(session: Session, like: Made) -> Iterator[Note]:
    """What differs in the computation: pixels differ slightly."""
    found = {"device": session.device.type, "dtype": session.dtype, "memory": str(session.memory)}
    differ = [
        f"{name} {value}, then {getattr(like, name)}" for name, value in found.items() if value != getattr(like, name)
    ]
    if like.version != __version__:
        differ.append(f"cnsctl {__version__}, then {like.version}")
    if like.batch_size > 1:
        differ.append(f"then in a batch of {like.batch_size} images")
    if differ:
        yield Note(text=f"pixels may differ slightly from the image: {'; '.join(differ)}")


def deltas(store: Store, names: set[str], *, plain: bool = False) -> dict[str, str]:
    """The concepts that act on a prompt that names these: the SHA-256 of each delta."""
    if plain:
        return {}
    found = store.snapshot()
    acting = found.concepts if store.mode is Mode.MERGED else [found.concept(name) for name in sorted(names)]
    return {r["name"]: r["delta"] for r in acting}


class Existing:
    """Decides whether the file of a place was made by this request: `--skip-existing`."""

    def __init__(self, store: Store, request: GenerateRequest, negative: Prompt, read: Callable[[str], Prompt]) -> None:
        own = asdict(open_base(store).generate_settings())
        self.settings = asdict(complete(GenerateSettings, own, request.settings))
        self.store, self.request, self.negative, self.read = store, request, negative, read

    def why_another(self, path: Path, place: Planned) -> str | None:
        """How the file differs, in words; None if the same request made it."""
        try:
            found = made.read(path)
        except CnsctlError as err:
            return err.what
        return next(self._differences(found, place), None)

    def _differences(self, found: Made, place: Planned) -> Iterator[str]:
        store, names = self.store, {m.name for m in (*place.prompt.mentions, *self.negative.mentions)}
        if not self._is(found.prompt, place.prompt):
            yield f"prompt {found.prompt[:80]!r}"
        if not self._is(found.negative_prompt, self.negative) and not place.is_plain:
            yield f"negative prompt {found.negative_prompt[:80]!r}"
        if found.seed != place.seed:
            yield f"seed {found.seed}"
        if found.base.fingerprint != store.base.fingerprint:
            yield f"base model {found.base.name} {found.base.fingerprint[:12]}"
        acting = deltas(store, names, plain=place.is_plain)
        if found.concepts != acting:
            differ = {n for n in {*found.concepts, *acting} if found.concepts.get(n) != acting.get(n)}
            yield f"with {', '.join(f'<{n}>' for n in sorted(differ))} as it was before"
        for name, value in self.settings.items():
            if found.settings.get(name) != value:
                yield f"{name} {found.settings.get(name)}, not {value}"
        dtype = checked(ComputeSettings, self.request.compute).get("dtype", Dtype.AUTO)
        if dtype not in (found.dtype, Dtype.AUTO):
            yield f"dtype {found.dtype}, not {dtype}"

    def _is(self, text: str, prompt: Prompt) -> bool:
        try:
            return text == prompt.text or self.read(text).pieces == prompt.pieces
        except CnsctlError:
            return False
