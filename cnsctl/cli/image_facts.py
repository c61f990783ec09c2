"""What image files record, as lines for people: `info`.

Owns words and their order; must not know how a file is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.cli.tables import counted, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cnsctl import results


def lines(r: results.InfoResult) -> Iterable[str]:
    for n, image in enumerate(r.images):
        if n:
            yield ""
        if image.problem is not None:
            yield f"{image.path}: {image.problem}"
            continue
        yield f"{image.path}: {image.kind}, {image.width} × {image.height} pixels"
        if image.made is not None:
            yield from _made(image.made)
        elif image.sheet:
            yield "  a contact sheet; the images beside it record how they were generated"
        else:
            others = f"; it has texts of another program: {', '.join(image.texts)}" if image.texts else ""
            yield f"  not recorded how it was generated{others}"
            yield "  only PNG files of cnsctl gen record it, and a program that saves them again may remove it"


def _made(m: results.Made) -> Iterable[str]:
    s = m.settings
    yield f"  prompt: {m.prompt}"
    if m.negative_prompt:
        yield f"  negative prompt: {m.negative_prompt}"
    schedule = "".join(f", {name} {s[name]}" for name in ("sigmas", "spacing") if s.get(name, "default") != "default")
    yield f"  seed {m.seed}, {counted(int(s['steps']), 'step')}, sampler {s['sampler']}{schedule}, guidance scale {s['guidance_scale']:g}"
    others = {name: s[name] for name in ("clip_skip", "long_prompts") if s.get(name)}
    if others:
        yield f"  {', '.join(f'{name} {plain(value)}' for name, value in others.items())}"
    yield f"  concepts: {', '.join(f'<{name}> {delta[:12]}' for name, delta in m.concepts.items()) or 'none'}"
    yield f"  base model: {m.base.name} {m.base.fingerprint[:12]}, {m.mode} mode"
    batch = "" if m.batch_size == 1 else f", in a batch of {m.batch_size}"
    saved = "" if m.memory == "auto" else f", memory {m.memory}"
    yield f"  computed on {m.device} in {m.dtype}{saved}{batch}, by cnsctl {m.version}"


def prompts(r: results.InfoResult) -> Iterable[str]:
    return [image.made.prompt for image in r.images if image.made is not None]
