"""The images of a call: what each is generated from, where it goes, and which exist already.

Owns the order of checks before a model is loaded; must not know models.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from cnsctl.app.concepts import known_names
from cnsctl.app.output_paths import Planned, outputs
from cnsctl.app.repeat_image import Existing, refuse_missing
from cnsctl.app.sheets import Sheet, sheet_path
from cnsctl.app.stores import base_of, damage_inside
from cnsctl.concept import Mode, Prompt
from cnsctl.data.prompt_grammar import parse, render_class
from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cnsctl.app.generate_request import GenerateRequest
    from cnsctl.store import Store


class Plan:
    """The images of a call, with a name each. A prompt of the stream is added when it arrives."""

    def __init__(self, store: Store, request: GenerateRequest) -> None:
        """Check and name the images of the prompts that are known.

        Raises:
            CnsctlError: a prompt cannot be generated, or a file exists and must not be overwritten.
        """
        self.store, self.request = store, request
        refuse_missing(store, request)
        self.read = _reader(store)
        self.negative = self.read(request.negative_prompt)
        self.prompts = [self.read(text) for text in request.prompts]
        several = request.stream is not None or request.compare or len(self.prompts) * request.count > 1
        self.existing = Existing(store, request, self.negative, self.read) if request.skip_existing else None
        self.outputs = outputs(
            request.output,
            many=several,
            force=request.force,
            save=request.save,
            why_another=None if self.existing is None else self.existing.why_another,
            next_free=request.like is not None and not request.skip_existing,
        )
        path = sheet_path(request, self.prompts)
        self.sheet = None if path is None else Sheet(path, request)
        self.kept = 0
        self.places = [place for prompt in self.prompts for place in self.add(prompt)]

    def add(self, prompt: Prompt) -> tuple[Planned, ...]:
        """Name the images of a prompt; returns those to generate.

        Raises:
            UsageError: a file exists and must not be overwritten, or the prompt has nothing to compare.
        """
        seeds = range(self.request.seed, self.request.seed + self.request.count)
        plain_prompt = self.plain(prompt) if self.request.compare else None
        own = self.outputs.plan(prompt, seeds)
        plain = () if plain_prompt is None else self.outputs.plan(plain_prompt, seeds, plain=True)
        if self.sheet is not None:
            self.sheet.plan(own, plain)
        places = [place for place in (*plain, *own) if not place.is_there]
        self.kept += len(own) + len(plain) - len(places)
        return tuple(places)

    def plain(self, prompt: Prompt) -> Prompt:
        """The same prompt with class words in place of the concepts.

        Raises:
            UsageError: it would be the same image.
        """
        if not prompt.mentions and self.store.mode is not Mode.MERGED and prompt is not self.negative:
            raise UsageError(
                f"nothing to compare: the prompt {prompt.text[:80]!r} does not name a concept", reason="compare"
            )
        found = self.store.snapshot()
        words = {mention.name: found.concept(mention.name)["class_word"] for mention in prompt.mentions}
        return parse(render_class(prompt, words), ())

    def negative_of(self, place: Planned) -> Prompt:
        """What the image should not show."""
        return self.plain(self.negative) if place.is_plain else self.negative


def _reader(store: Store) -> Callable[[str], Prompt]:
    """Parses prompts, and refuses scales that the store's mode does not support."""

    @cache
    def own_tokens() -> Collection[str]:
        from cnsctl.bases.clip_tokenizer import added_tokens

        with damage_inside(store):
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
