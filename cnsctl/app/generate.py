"""`gen`: prompts in, images on disk as soon as each is generated.

Owns what is generated together and what each image records; must not know terminals or attention.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cnsctl import __version__, results
from cnsctl.app import made, repeat_image
from cnsctl.app.concepts import known_names
from cnsctl.app.forecast import GENERATE, after_loading, image_rows
from cnsctl.app.generate_plan import Plan
from cnsctl.app.generate_request import check, refuse_for_several
from cnsctl.app.processes import together
from cnsctl.app.session import Session, started
from cnsctl.app.stores import open_base
from cnsctl.concept import Mode, Prompt
from cnsctl.data import other_syntax
from cnsctl.data.prompt_grammar import missed
from cnsctl.errors import CnsctlError, DiskError, PartialFailureError, UsageError
from cnsctl.events import Event, Failed, ImageReady, Note, Phase, Warn
from cnsctl.settings import GenerateSettings, checked, complete

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.app.generate_request import GenerateRequest
    from cnsctl.app.output_paths import Planned
    from cnsctl.engine.concepts import Concept
    from cnsctl.engine.overlay import Overlay
    from cnsctl.engine.recent import Recent
    from cnsctl.store import Store

MAX_BATCH = 16
"""Largest batch that `auto` tries."""

MAX_DECODED = 16
"""Concepts that stay decoded between the lines of a stream: 13 MB each at the size of Stable Diffusion 1.5."""


def generate(
    store: Store, request: GenerateRequest, *, session: Session | None = None
) -> Generator[Event, None, results.GenerateResult]:
    """Generate every prompt: an `ImageReady` per image, a `Failed` per line of the stream that fails.

    Everything that can be refused is refused before the model is loaded.
    """
    request = check(request)
    processes = together(request.compute)
    if processes.count > 1:
        refuse_for_several(request)
        request = replace(request, seed=processes.from_main(request.seed))
    plan = Plan(store, request)
    own = [plan.places[i] for i in processes.share(len(plan.places))]
    processes.gathered(None)  # before one of them writes an image
    yield from _named_elsewhere(request.settings)
    if request.like is not None:
        yield from repeat_image.changes(store, request.like, plan.prompts)
    counts: Counter[type] = Counter()
    done = []
    if plan.existing is not None and not plan.places and request.stream is None:
        settings = plan.existing.settings  # all images are there
    else:
        if own:
            expected = complete(GenerateSettings, asdict(open_base(store).generate_settings()), request.settings)
            yield after_loading(((GENERATE, len(own) * image_rows(expected)),))
        work = yield from _begun(store, plan, session, most=len(own))
        settings = asdict(work.settings)
        for event in _all(work, own):
            counts[type(event)] += 1
            if isinstance(event, ImageReady) and processes.count > 1:
                done.append(replace(event, pixels=None, png=b""))
            yield event
    for others in processes.gathered(done)[1:]:
        counts[ImageReady] += len(others)
        if processes.is_main:
            yield from others
    sheet = None if plan.sheet is None else plan.sheet.write()
    yield from _said_at_the_end(plan, sheet)
    return results.GenerateResult(
        store=str(store.path),
        generated=counts[ImageReady],
        kept=plan.kept,
        failed=counts[Failed],
        sheet=sheet,
        settings=settings,
    )


def _begun(store: Store, plan: Plan, session: Session | None, *, most: int) -> Generator[Event, None, _Generation]:
    """Load the base model, unless it is loaded, and check what only it can check."""
    request = plan.request
    session = yield from started(store, repeat_image.compute(request) if session is None else {}, session)
    work = _Generation(session, plan, most=most if request.stream is None else MAX_BATCH)
    if request.like is not None:
        yield from repeat_image.computed_differently(session, request.like)
    if work.settings.guidance_scale <= 1 and request.negative_prompt:
        yield Warn(text=f"the negative prompt has no effect at guidance scale {work.settings.guidance_scale:g}")
    if request.batch_size == 0:
        yield Note(text=f"batch size {work.batch}")
    return work


def _said_at_the_end(plan: Plan, sheet: str | None) -> Iterator[Event]:
    if plan.kept:
        yield Note(text=f"{plan.kept} image{'' if plan.kept == 1 else 's'} existed already")
    if sheet is not None:
        yield Note(text=f"contact sheet: {sheet}")


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


def _all(work: _Generation, planned: Sequence[Planned]) -> Iterator[Event]:
    """The prompts of the call, of which a failure ends all; then the stream, of which a failure ends one line."""
    if planned:
        for done in work.generate(work.overlay(place.prompt for place in planned), planned):
            if isinstance(done, CnsctlError):
                raise done
            yield done
    for texts in work.plan.request.stream or ():
        yield from _together(work, [_Line(text=text) for text in texts])


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


def _together(work: _Generation, lines: Sequence[_Line]) -> Iterator[Event]:
    """Generate the images of several lines in shared batches; yield the events of each line in turn."""
    for line in lines:
        with line.failing_alone():
            line.prompt = work.plan.read(line.text)
    overlay = _overlay_of(work, lines)
    for line in lines:
        if overlay is not None and line.prompt is not None and line.error is None:
            with line.failing_alone():
                overlay.splice(
                    work.session.base, line.prompt, work.texts.options
                )  # refuses a concept that does not fit into the text
                line.planned = work.plan.add(line.prompt)
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

    def __init__(self, session: Session, plan: Plan, *, most: int) -> None:
        from cnsctl.engine.generate import Texts, fitting_batch
        from cnsctl.engine.recent import Recent

        request = plan.request
        self.session, self.plan = session, plan
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
        names = {m.name for p in (*prompts, self.plan.negative) for m in p.mentions}
        if self.session.store.mode is not Mode.MERGED:
            return self.session.overlay(names, decoded=self.decoded)
        now = [(r["name"], r["delta"]) for r in self.session.store.concepts()]
        have = {} if self.merged is None else self.merged.concepts
        if self.merged is None or not names <= have.keys() or now != [(n, c.key) for n, c in have.items()]:
            self.merged = self.session.overlay(names, decoded=self.decoded)
        return self.merged

    def generate(self, overlay: Overlay, planned: Sequence[Planned]) -> Iterator[Event | CnsctlError]:
        """Generate images in order: per image an `ImageReady`, or the error that it has instead."""
        yield from self._warnings(overlay, planned)
        yield Phase(name=GENERATE, total=len(planned))
        for is_plain, group in groupby(planned, key=lambda place: place.is_plain):
            yield from self._group(overlay, list(group), alone=is_plain and overlay.mode is Mode.MERGED)

    def _group(self, overlay: Overlay, planned: Sequence[Planned], *, alone: bool) -> Iterator[Event | CnsctlError]:
        """Generate images with one overlay, or by the base model alone."""
        from cnsctl.data.png import png_bytes
        from cnsctl.engine import generate as engine
        from cnsctl.engine.overlay import EMPTY

        overlay = EMPTY if alone else overlay
        requests = [engine.Request(prompt=p.prompt, seed=p.seed, negative=self.plan.negative_of(p)) for p in planned]
        places = iter(planned)
        for event in engine.generation(self.texts, overlay, requests, self.settings, batch=self.batch):
            if not isinstance(event, engine.Image):
                yield event
            elif event.pixels is None:
                next(places)
                yield engine.not_finite(self.settings)
            else:
                place = next(places)
                png = png_bytes(event.pixels, made.texts(self._made(overlay, place, event.beside)))
                yield self._kept(place, event.pixels, png)

    def _kept(self, place: Planned, pixels: NDArray[np.uint8], png: bytes) -> ImageReady | UsageError:
        try:
            path = self.plan.outputs.keep(place, png)
        except UsageError as err:
            return err
        if self.plan.sheet is not None:
            self.plan.sheet.add(place, pixels)
        names = tuple(m.name for m in place.prompt.mentions)
        return ImageReady(path=path, seed=place.seed, prompt=place.prompt.text, concepts=names, pixels=pixels, png=png)

    def _warnings(self, overlay: Overlay, planned: Sequence[Planned]) -> Iterator[Event]:
        known = known_names(self.session.store)
        own = [place.prompt for place in planned if not place.is_plain]
        for prompt in dict.fromkeys([*own, self.plan.negative]):
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
        words = [piece for piece in prompt.pieces if isinstance(piece, str)]
        for text, mention in (pair for piece in words for pair in other_syntax.misbracketed(piece, known)):
            if text not in self.explained:
                self.explained |= {text, "name"}
                yield Warn(text=f"{text} is used as words: write {mention}")
        if "name" not in self.explained and not prompt.mentions and prompt is not self.plan.negative:
            for name in other_syntax.unmarked(prompt.text, known):
                self.explained.add("name")
                yield Note(text=f"did you mean <{name}>? Without brackets, {name!r} is words, not the concept")
                break

    def _made(self, overlay: Overlay, place: Planned, beside: int) -> results.Made:
        """How the image was made, as its file records it."""
        negative = self.plan.negative_of(place)
        named = [m.name for m in (*place.prompt.mentions, *negative.mentions)]
        acting = overlay.concepts if overlay.mode is Mode.MERGED else named
        return results.Made(
            version=__version__,
            prompt=place.prompt.text,
            negative_prompt=negative.text,
            seed=place.seed,
            concepts={name: overlay.concepts[name].key for name in acting},
            base=results.MadeOn(name=self.session.base.name, fingerprint=self.session.base.fingerprint),
            mode=str(overlay.mode),
            settings=asdict(self.settings),
            device=self.session.device.type,
            dtype=self.session.dtype,
            memory=str(self.session.memory),
            batch_size=beside,
        )
