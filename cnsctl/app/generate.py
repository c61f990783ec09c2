"""`gen`: prompts in, images on disk as soon as each is generated.

Owns the order of checks and the text inside an image file; must not know terminals or attention.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from cnsctl import __version__, results
from cnsctl.app.concepts import known_names
from cnsctl.app.forecast import GENERATE, after_loading, image_rows
from cnsctl.app.output_paths import STDOUT, Outputs, Planned, outputs
from cnsctl.app.processes import together
from cnsctl.app.session import Session, started
from cnsctl.app.stores import base_of, open_base
from cnsctl.concept import Mode, Prompt
from cnsctl.data import other_syntax
from cnsctl.data.prompt_grammar import missed, parse
from cnsctl.errors import CnsctlError, DiskError, PartialFailureError, UsageError
from cnsctl.events import Event, Failed, ImageReady, Note, Phase, Warn
from cnsctl.settings import RANDOM_SEED, GenerateSettings, RequestSettings, checked, complete, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.engine.concepts import Concept
    from cnsctl.engine.overlay import Overlay
    from cnsctl.engine.recent import Recent
    from cnsctl.store import Store

FORMAT = 1
"""Version of the text `cnsctl` in a PNG."""

MAX_BATCH = 16
"""Largest batch that `auto` tries."""

MAX_DECODED = 16
"""Concepts that stay decoded between the lines of a stream: 13 MB each at the size of Stable Diffusion 1.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """What the user asked to generate."""

    prompts: Sequence[str]
    """From the command line; all are checked before the model is loaded."""
    stream: Iterable[Sequence[str]] | None = None
    """More prompts as they arrive: those that arrive together are generated together."""
    negative_prompt: str = ""
    count: int = 1
    """Images per prompt: image k uses seed + k."""
    seed: int = 0
    save: bool = True
    """Write files; otherwise images are only events."""
    output: Path | None = None
    force: bool = False
    batch_size: int | str = 1
    """Images at a time; `auto` or 0: as many as the memory of the device allows."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `GenerateSettings` that the user gave; the base model sets the rest."""
    compute: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ComputeSettings` that the user gave."""


def generate(
    store: Store, request: GenerateRequest, *, session: Session | None = None
) -> Generator[Event, None, results.GenerateResult]:
    """Generate every prompt: an `ImageReady` per image, a `Failed` per line of the stream that fails.

    Everything that can be refused is refused before the model is loaded.
    """
    request = replace(_checked(request), seed=chosen_seed(request.seed))
    processes = together(request.compute)
    if processes.count > 1:
        _refuse_for_several(request)
        request = replace(request, seed=processes.from_main(request.seed))
    read = _reader(store)
    negative = read(request.negative_prompt)
    prompts = [read(text) for text in request.prompts]
    many = request.stream is not None or len(prompts) * request.count > 1
    places = outputs(request.output, many=many, force=request.force, save=request.save)
    seeds = range(request.seed, request.seed + request.count)
    planned = [place for prompt in prompts for place in places.plan(prompt, seeds)]
    processes.gathered(None)  # before one of them writes an image
    own = [planned[i] for i in processes.share(len(planned))]
    yield from _named_elsewhere(request.settings)
    if own:
        expected = complete(GenerateSettings, asdict(open_base(store).generate_settings()), request.settings)
        yield after_loading(((GENERATE, len(own) * image_rows(expected)),))
    session = yield from started(store, request.compute, session)
    most = len(own) if request.stream is None else MAX_BATCH
    work = _Generation(session, request, negative, places, read, most=most)
    if work.settings.guidance_scale <= 1 and request.negative_prompt:
        yield Warn(text=f"the negative prompt has no effect at guidance scale {work.settings.guidance_scale:g}")
    if request.batch_size == 0:
        yield Note(text=f"batch size {work.batch}")
    counts = {ImageReady: 0, Failed: 0}
    done = []
    for event in _all(work, own, seeds):
        if isinstance(event, (ImageReady, Failed)):
            counts[type(event)] += 1
        if isinstance(event, ImageReady) and processes.count > 1:
            done.append(replace(event, pixels=None, png=b""))
        yield event
    for others in processes.gathered(done)[1:]:
        counts[ImageReady] += len(others)
        if processes.is_main:
            yield from others
    return results.GenerateResult(
        store=str(store.path),
        generated=counts[ImageReady],
        failed=counts[Failed],
        settings=asdict(work.settings),
    )


def chosen_seed(given: int | None) -> int:
    """The given seed, or a random one if none was given; it is kept in the PNG text of each image."""
    import secrets

    return secrets.randbelow(2**31) if given is None or given == RANDOM_SEED else given


def _named_elsewhere(settings: Mapping[str, Any]) -> Iterator[Event]:
    """Print what a name of another tool means here."""
    if "sampler" not in settings:
        return
    name, meant = settings["sampler"], checked(GenerateSettings, settings)
    if name != meant["sampler"]:
        more = [f"{s} {meant[s]}" for s in ("sigmas", "spacing") if s in meant]
        yield Note(text=f"sampler {name!r} is {' with '.join([meant['sampler'], *more])}")


def problem(result: results.GenerateResult) -> PartialFailureError | None:
    """What a command must report after the result."""
    if not result.failed:
        return None
    failed = f"{result.failed} prompt{'' if result.failed == 1 else 's'} failed"
    return PartialFailureError(f"{failed}; {result.generated} image{'' if result.generated == 1 else 's'} generated")


def _all(work: _Generation, planned: Sequence[Planned], seeds: Sequence[int]) -> Iterator[Event]:
    """The prompts of the call, of which a failure ends all; then the stream, of which a failure ends one line."""
    if planned:
        for done in work.generate(work.overlay(place.prompt for place in planned), planned):
            if isinstance(done, CnsctlError):
                raise done
            yield done
    for texts in work.request.stream or ():
        yield from _together(work, [_Line(text=text) for text in texts], seeds)


@dataclass(slots=True, kw_only=True)
class _Line:
    """A prompt of the stream, with the images to generate or the error that it has instead."""

    text: str
    prompt: Prompt | None = None
    planned: Sequence[Planned] = ()
    error: CnsctlError | None = None

    @contextmanager
    def failing_alone(self) -> Iterator[None]:
        try:
            yield
        except DiskError:
            raise
        except CnsctlError as err:
            self.error = err


def _together(work: _Generation, lines: Sequence[_Line], seeds: Sequence[int]) -> Iterator[Event]:
    """Generate the images of several lines in shared batches; yield the events of each line in turn."""
    for line in lines:
        with line.failing_alone():
            line.prompt = work.read(line.text)
    overlay = _overlay_of(work, lines)
    for line in lines:
        if overlay is not None and line.prompt is not None and line.error is None:
            with line.failing_alone():
                overlay.splice(
                    work.session.base, line.prompt, work.texts.options
                )  # refuses a concept that does not fit into the text
                line.planned = work.outputs.plan(line.prompt, seeds)
    planned = [place for line in lines for place in line.planned]
    events = work.generate(overlay, planned) if overlay is not None and planned else iter(())
    for line in lines:
        left = len(line.planned)
        while left:
            done = next(events)
            if isinstance(done, CnsctlError):
                line.error = line.error or done
            else:
                yield done
            left -= isinstance(done, (ImageReady, CnsctlError))
        if line.error is not None:
            yield Failed(prompt=line.text, error=line.error)


def _overlay_of(work: _Generation, lines: Sequence[_Line]) -> Overlay | None:
    """The concepts of all lines, without the lines whose concepts are missing or damaged: these fail. None if all fail."""
    while good := [(line, line.prompt) for line in lines if line.prompt is not None and line.error is None]:
        with suppress(CnsctlError):
            return work.overlay(prompt for _, prompt in good)
        for line, prompt in good:  # find the line whose concept failed
            with line.failing_alone():
                work.overlay([prompt])
    return None


class _Generation:
    """A loaded base model with its caches: K and V of the last few texts, the last few decoded concepts."""

    def __init__(
        self,
        session: Session,
        request: GenerateRequest,
        negative: Prompt,
        outputs: Outputs,
        read: Callable[[str], Prompt],
        *,
        most: int,
    ) -> None:
        from cnsctl.engine.generate import Texts, fitting_batch
        from cnsctl.engine.recent import Recent

        self.session, self.request, self.negative, self.outputs, self.read = session, request, negative, outputs, read
        self.settings: GenerateSettings = complete(
            GenerateSettings, asdict(session.base.generate_defaults), request.settings
        )
        session.base.check_sampler(self.settings)
        self.explained: set[str] = set()
        self.batch = int(request.batch_size)
        if self.batch == 0:  # on CPUs a batch is not faster, and the system ends a process that takes too much memory
            most = 1 if session.device.type == "cpu" else min(max(1, most), MAX_BATCH)
            self.batch = fitting_batch(session.base, self.settings, most=most)
        self.texts = Texts(session.base, self.settings, batch=self.batch)
        self.decoded: Recent[Concept] = Recent(MAX_DECODED + self.batch)
        self.merged: Overlay | None = None

    def overlay(self, prompts: Iterable[Prompt]) -> Overlay:
        """The concepts that act on these prompts and on the negative prompt, by the current state of the store."""
        names = {m.name for p in (*prompts, self.negative) for m in p.mentions}
        if self.session.store.mode is not Mode.MERGED:
            return self.session.overlay(names, decoded=self.decoded)
        now = [(r["name"], r["delta"]) for r in self.session.store.concepts()]
        have = {} if self.merged is None else self.merged.concepts
        if self.merged is None or not names <= have.keys() or now != [(n, c.key) for n, c in have.items()]:
            self.merged = self.session.overlay(names, decoded=self.decoded)
        return self.merged

    def generate(self, overlay: Overlay, planned: Sequence[Planned]) -> Iterator[Event | CnsctlError]:
        """Generate images in order: per image an `ImageReady`, or the error that it has instead."""
        from cnsctl.data.png import png_bytes
        from cnsctl.engine import generate as engine

        yield from self._warnings(overlay, planned)
        yield Phase(name=GENERATE, total=len(planned))
        requests = [engine.Request(prompt=p.prompt, seed=p.seed, negative=self.negative) for p in planned]
        places = iter(planned)
        for event in engine.generation(self.texts, overlay, requests, self.settings, batch=self.batch):
            if not isinstance(event, engine.Image):
                yield event
            elif event.pixels is None:
                next(places)
                yield engine.not_finite(self.settings)
            else:
                place = next(places)
                png = png_bytes(event.pixels, self._facts(overlay, place))
                yield self._kept(place, event.pixels, png)

    def _kept(self, place: Planned, pixels: NDArray[np.uint8], png: bytes) -> ImageReady | UsageError:
        try:
            path = self.outputs.keep(place, png)
        except UsageError as err:
            return err
        names = tuple(m.name for m in place.prompt.mentions)
        return ImageReady(path=path, seed=place.seed, prompt=place.prompt.text, concepts=names, pixels=pixels, png=png)

    def _warnings(self, overlay: Overlay, planned: Sequence[Planned]) -> Iterator[Event]:
        known = known_names(self.session.store)
        for prompt in dict.fromkeys([*(p.prompt for p in planned), self.negative]):
            if lost := overlay.splice(self.session.base, prompt, self.texts.options).tokens.lost:
                yield Warn(text=f"the prompt is too long for this base model; ignored: {lost}")
            for name, nearest in missed(prompt.text, known):
                yield Warn(text=f"@{name} is not a concept and is used as text; did you mean @{nearest}?")
            yield from self._explanations(prompt, known)

    def _explanations(self, prompt: Prompt, known: Collection[str]) -> Iterator[Event]:
        """Once per run: what the prompts have in another tool's syntax, and names of concepts without brackets."""
        for found in other_syntax.found(prompt.text, known):
            if found.kind not in self.explained:
                self.explained.add(found.kind)
                yield Warn(text=f"{found.text} is used as words: {found.why}")
        if "name" not in self.explained and not prompt.mentions and prompt is not self.negative:
            for name in other_syntax.unmarked(prompt.text, known):
                self.explained.add("name")
                yield Note(text=f"did you mean <{name}>? Without brackets, {name!r} is words, not the concept")
                break

    def _facts(self, overlay: Overlay, place: Planned) -> dict[str, str]:
        """How the image was made, as texts of the PNG file."""
        named = [m.name for m in (*place.prompt.mentions, *self.negative.mentions)]
        acting = overlay.concepts if overlay.mode is Mode.MERGED else named
        made = {
            "format": FORMAT,
            "prompt": place.prompt.text,
            "negative_prompt": self.negative.text,
            "seed": place.seed,
            "concepts": {name: overlay.concepts[name].key for name in acting},
            "base": {"name": self.session.base.name, "fingerprint": self.session.base.fingerprint},
            "mode": str(overlay.mode),
            "settings": asdict(self.settings),
            "device": self.session.device.type,
            "dtype": self.session.dtype,
        }
        return {"Software": f"cnsctl {__version__}", "cnsctl": json.dumps(made, sort_keys=True, ensure_ascii=False)}


def _reader(store: Store) -> Callable[[str], Prompt]:
    """Parses prompts, and refuses scales that the store's mode does not support."""

    @cache
    def own_tokens() -> Collection[str]:
        from cnsctl.bases.clip_tokenizer import added_tokens

        return added_tokens(base_of(store))

    def read(text: str) -> Prompt:
        prompt = parse(text, known_names(store), own_tokens)
        for mention in prompt.mentions:
            if store.mode is Mode.MERGED and mention.scale != 1:
                raise UsageError(
                    f"cannot scale <{mention.name}:{mention.scale:g}>: in merged mode every delta has scale 1",
                    hint=f"write <{mention.name}>, or use a store in prompt mode",
                )
        return prompt

    return read


def _checked(request: GenerateRequest) -> GenerateRequest:
    checked(GenerateSettings, request.settings)
    return replace(
        request, **checked(RequestSettings, {name: getattr(request, name) for name in settings_of(RequestSettings)})
    )


def _refuse_for_several(request: GenerateRequest) -> None:
    """Several processes share a list of images; they cannot share a stream."""
    if request.stream is not None or request.output == STDOUT:
        raise UsageError(
            "several processes cannot share standard input or output",
            note="each of them makes a part of the images",
            hint="give the prompts as arguments, and a folder for the images",
        )
