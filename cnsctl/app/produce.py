"""`gen`: prompts in, pictures on disk as soon as each is drawn.

Owns the order of checks and what a picture says of itself; must not know terminals or attention.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cnsctl import __version__
from cnsctl.app.outputs import Outputs, Planned, keep
from cnsctl.app.session import Compute, Session, start
from cnsctl.app.shelf import known_names
from cnsctl.data.prompts import missed, parse
from cnsctl.errors import CnsctlError, DiskProblem, PartlyDone, UsageProblem
from cnsctl.results import Answer, Drawn, Event, Failed, Phase, Warn
from cnsctl.specs import DRAW_LIMITS, FORMAT, DrawSpec, Mode, Prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cnsctl.engine.overlay import Overlay
    from cnsctl.store import Store

MAX_COUNT = 100_000
"""Pictures per prompt: more is a slip of the finger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawRequest:
    """What the user asked to draw."""

    prompts: Sequence[str]
    """From the command line; all are checked before the model is loaded."""
    stream: Iterable[str] | None = None
    """More prompts, one a line, drawn as they come."""
    negative: str = ""
    count: int = 1
    """Pictures per prompt: picture k uses seed + k."""
    seed: int = 0
    output: Path | None = None
    force: bool = False
    batch: int = 1
    settings: Mapping[str, Any]
    """Fields of `DrawSpec` that the user gave."""
    compute: Compute = field(default_factory=Compute)
    on_step: Callable[[int, int], None] | None = None
    """Told of each denoising step: (done, total). A picture of a large base takes minutes on a CPU."""


def generate(store: Store, request: DrawRequest) -> Iterator[Event]:
    """Draw every prompt: a `Drawn` per picture, a `Failed` per line that is wrong, then the answer.

    Raises:
        PartlyDone: after the answer, when some lines of the stream failed.
    """
    _check_settings(request)
    negative = _parsed(store, request.negative)
    prompts = [_parsed(store, text) for text in request.prompts]
    many = request.stream is not None or len(prompts) * request.count > 1
    outputs = Outputs(request.output, many=many, force=request.force)
    seeds = range(request.seed, request.seed + request.count)
    planned = [place for prompt in prompts for place in outputs.plan(prompt, seeds)]
    yield Phase(name="load the base")
    session = start(store, request.compute)
    artist = _Artist(session, request, negative)
    if artist.spec.guidance <= 1 and request.negative:
        yield Warn(text=f"--negative has no effect at guidance {artist.spec.guidance:g}")
    counts = {Drawn: 0, Failed: 0}
    for event in _all(artist, planned, outputs, seeds):
        if isinstance(event, (Drawn, Failed)):
            counts[type(event)] += 1
        yield event
    drawn, failed = counts[Drawn], counts[Failed]
    facts = {"format": FORMAT, "store": str(store.path), "drawn": drawn, "failed": failed}
    yield Answer(data=facts | {"draw": asdict(artist.spec)})
    if failed:
        of_prompts, of_pictures = _counted(failed, "prompt"), _counted(drawn, "picture")
        raise PartlyDone(f"{of_prompts} failed; {of_pictures} drawn", hint="see the messages above")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _all(artist: _Artist, planned: Sequence[Planned], outputs: Outputs, seeds: Sequence[int]) -> Iterator[Event]:
    yield from artist.draw(planned)
    for line in artist.request.stream or ():
        if not (text := line.rstrip("\r\n")).strip():
            continue
        try:
            yield from artist.draw(outputs.plan(_parsed(artist.session.store, text), seeds))
        except DiskProblem:
            raise
        except CnsctlError as err:
            yield Failed(prompt=text, code=err.code, message=str(err))


class _Artist:
    """A loaded base with the concepts named so far."""

    def __init__(self, session: Session, request: DrawRequest, negative: Prompt) -> None:
        self.session, self.request, self.negative = session, request, negative
        self.spec: DrawSpec = replace(session.base.draw_defaults, **request.settings)
        self.overlay: Overlay | None = None

    def draw(self, planned: Sequence[Planned]) -> Iterator[Event]:
        from cnsctl.data.png import png_bytes
        from cnsctl.engine import generate as engine

        if not planned:
            return
        overlay = self._overlay_for(p.prompt for p in planned)
        yield from self._warnings(overlay, planned)
        yield Phase(name="draw", total=len(planned))
        requests = [engine.Request(prompt=p.prompt, seed=p.seed, negative=self.negative) for p in planned]
        batch, on_step = self.request.batch, self.request.on_step
        drawn = engine.draw(self.session.base, overlay, requests, self.spec, batch=batch, on_step=on_step)
        for place, (_, picture) in zip(planned, drawn, strict=True):
            png = png_bytes(picture, self._facts(overlay, place))
            if place.path.name != "-":
                keep(place.path, png)
            names = tuple(m.name for m in place.prompt.mentions)
            yield Drawn(
                path=str(place.path),
                seed=place.seed,
                prompt=place.prompt.text,
                concepts=names,
                picture=picture,
                png=png,
            )

    def _overlay_for(self, prompts: Iterable[Prompt]) -> Overlay:
        wanted = {m.name for p in (*prompts, self.negative) for m in p.mentions}
        if self.overlay is None or not wanted <= set(self.overlay.concepts):
            known = set(self.overlay.concepts if self.overlay else ()) & set(known_names(self.session.store))
            self.overlay = self.session.overlay(wanted | known)
        return self.overlay

    def _warnings(self, overlay: Overlay, planned: Sequence[Planned]) -> Iterator[Event]:
        known = known_names(self.session.store)
        for prompt in dict.fromkeys([*(p.prompt for p in planned), self.negative]):
            if lost := overlay.splice(self.session.base, prompt).lost:
                yield Warn(text=f"the prompt is too long for this base; it does not read: {lost}")
            for name, nearest in missed(prompt.text, known):
                yield Warn(text=f"@{name} names no concept and is drawn as text; did you mean @{nearest}?")

    def _facts(self, overlay: Overlay, place: Planned) -> dict[str, str]:
        """What a picture says of itself, as PNG texts."""
        named = [m.name for m in (*place.prompt.mentions, *self.negative.mentions)]
        acting = overlay.concepts if overlay.mode is Mode.MERGED else named
        told = {
            "format": FORMAT,
            "prompt": place.prompt.text,
            "negative": self.negative.text,
            "seed": place.seed,
            "concepts": {name: overlay.concepts[name].key for name in acting},
            "base": {"name": self.session.base.name, "fingerprint": self.session.base.fingerprint},
            "mode": str(overlay.mode),
            "draw": asdict(self.spec),
            "device": self.session.device.type,
            "dtype": self.session.dtype,
        }
        return {"Software": f"cnsctl {__version__}", "cnsctl": json.dumps(told, sort_keys=True, ensure_ascii=False)}


def _parsed(store: Store, text: str) -> Prompt:
    """Parse a prompt, and refuse before the model is loaded what the store's mode cannot do."""
    prompt = parse(text, known_names(store))
    for mention in prompt.mentions:
        if store.mode is Mode.MERGED and mention.scale != 1:
            raise UsageProblem(
                f"<{mention.name}:{mention.scale:g}> asks for a scale, and this store is merged: all deltas act",
                hint=f"write <{mention.name}>, or use a store in prompt mode",
            )
    return prompt


def _check_settings(request: DrawRequest) -> None:
    from cnsctl.bases.samplers import check_sampler

    given = {"count": request.count, "batch": request.batch, "seed": request.seed, **request.settings}
    limits = {**DRAW_LIMITS, "count": (1, MAX_COUNT), "batch": (1, 4096), "seed": (0, 2**62)}
    for key, (low, high) in limits.items():
        if key in given and not low <= given[key] <= high:
            raise UsageProblem(f"--{key} {given[key]} is out of range", hint=f"use {low} to {high}")
    if given.get("size", 64) % 64:
        raise UsageProblem(f"--size {given['size']} does not fit", hint="use a multiple of 64, such as 128 or 512")
    if "sampler" in given:
        check_sampler(given["sampler"])
