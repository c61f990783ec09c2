"""Answers as lines for people, one function per verb.

Owns wording and columns; must not know stores or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cnsctl.cli.output import table

Data = Mapping[str, Any]
NONE = "–"


def made(data: Data) -> Iterable[str]:
    yield f"made a store at {data['store']}, on {data['base']['name']}, in {data['mode']} mode"


def listing(data: Data) -> Iterable[str]:
    rows = [
        (
            c["name"],
            c["class_word"],
            str(c["tokens"]),
            f"{c['neurons']:,}",
            f"{c['share']:.2%}",
            size(c["bytes"]),
            number(c["learned"].get("error_removed"), ".1f"),
            number(c["learned"].get("clip_i"), ".3f"),
            c["created"][:10],
            "damaged" if c["damaged"] else "",
        )
        for c in data["concepts"]
    ]
    yield from table(
        rows,
        ("name", "class", "tokens", "neurons", "of K/V", "size", "err. removed", "CLIP-I", "learned", "state"),
        nothing="no concept is learned yet: cnsctl add NAME PICTURES",
    )


def names(data: Data) -> Iterable[str]:
    return [c["name"] for c in data["concepts"]]


def concept(data: Data) -> Iterable[str]:
    c = data["concept"]
    yield f"<{c['name']}>  {c['class_word']}, {counted(c['tokens'], 'token')}, learned {c['created']} from {counted(c['pictures'] - c['held_out'], 'picture')}"
    yield f"  {c['neurons']:,} neurons: {c['share']:.2%} of the K/V weights, {c['share_denoiser']:.3%} of the denoiser; {size(c['bytes'])}"
    learned = c["learned"]
    yield (
        f"  at learning: error removed {number(learned.get('error_removed'), '.1f')} %, "
        f"CLIP-I {number(learned.get('clip_i'), '.3f')}, CLIP-T {number(learned.get('clip_t'), '.3f')} "
        f"({learned.get('backbone') or 'no CLIP'})"
    )
    recipe = ", ".join(f"{key} {value}" for key, value in sorted(c.get("recipe", {}).items()))
    yield f"  recipe: {recipe}"
    if c["damaged"]:
        yield "  damaged: its delta is missing or has the wrong size"
    for other, shared in sorted(c.get("overlaps", {}).items()):
        yield (
            f"  shares {shared:,} neurons with <{other}>"
            if shared is not None
            else f"  <{other}>: a delta cannot be read"
        )
    yield f"  delta: {c['delta']}"
    for i, path in enumerate(c["references"]):
        held_out = i >= c["pictures"] - c["held_out"]
        yield f"  {'held out' if held_out else 'picture'}: {path}"


def concept_name(data: Data) -> Iterable[str]:
    return [data["concept"]["name"]]


def added(data: Data) -> Iterable[str]:
    c = data["concept"]
    learned = c["learned"]
    yield (
        f"<{c['name']}>: {c['neurons']:,} neurons, {c['share']:.2%} of the K/V weights, {c['share_denoiser']:.3%} of the "
        f"denoiser, {size(c['bytes'])}; error removed {number(learned.get('error_removed'), '.1f')} %"
        + (f", CLIP-I {learned['clip_i']:.3f}" if learned.get("clip_i") is not None else "")
    )


def scored(data: Data) -> Iterable[str]:
    yield (
        f"<{data['name']}> ({data['class_word']}): {data['neurons']:,} neurons, {data['share']:.2%} of the K/V weights, "
        f"{data['share_denoiser']:.3%} of the denoiser; mask {data['mask'][:12]}"
    )
    rows = [
        (s["site"], f"{s['neurons']:,}", f"{s['neurons'] / s['weights']:.2%}", f"{s['general']:.2%}")
        for s in data["sites"]
    ]
    yield from table(rows, ("site", "neurons", "share", "general"))
    yield f"{data['shared']:,} shared with other concepts (a random mask: {data['shared_random']:,})"


def verified(data: Data) -> Iterable[str]:
    rows = [
        (
            r["name"],
            _state(r),
            "0" if r["moved"] == 0 else number(r["moved"], ".1e"),
            number(r["lost"], "+.1f"),
            "; ".join(r["reasons"]),
        )
        for r in data["concepts"]
    ]
    yield from table(rows, ("name", "state", "moved", "points lost", "because"))


def _state(row: Data) -> str:
    if row["damaged"]:
        return "damaged"
    if row["unchanged"] is None:
        return "not checked"
    return "forgotten" if row["forgotten"] else "unchanged" if row["unchanged"] else "moved"


def evaluated(data: Data) -> Iterable[str]:
    rows = [
        (
            r["name"],
            f"{number(r['error_removed'], '.1f')} ± {number(r['error_removed_spread'], '.1f')}",
            number(r["forgetting"]["error_removed"], "+.1f"),
            number(r["clip_i"], ".3f"),
            number(r["clip_i_class"], ".3f"),
            number(r["clip_i_real"], ".3f"),
            number(r["forgetting"]["clip_i"], "+.3f"),
            number(r["clip_t"], ".3f"),
            number(r["clip_t_class"], ".3f"),
            str(r["held_out"] or NONE),
        )
        for r in data["concepts"]
    ]
    head = (
        "name", "err. removed", "forgotten", "CLIP-I", "class word", "real", "forgotten", "CLIP-T", "class word",
        "held out",
    )  # fmt: skip
    yield from table(rows, head)
    if data["drift"] is not None:
        d = data["drift"]
        yield f"drift of the base: {d['changed']} of {d['pictures']} pictures changed, mean {d['mean_abs']:.3f} of 255 levels"


def removed(data: Data) -> Iterable[str]:
    for name in data["removed"]:
        touched = data["touched"].get(name, {})
        after = f"; it lay under {', '.join(f'<{n}> ({k:,} neurons)' for n, k in touched.items())}" if touched else ""
        yield f"removed <{name}>{after}"
    for name in data["discarded"]:
        yield f"threw away the unfinished learning of <{name}>"


def gone(data: Data) -> Iterable[str]:
    return [*data["removed"], *data["discarded"]]


def size(n_bytes: int) -> str:
    return f"{n_bytes / 1000:.0f} KB" if n_bytes < 1_000_000 else f"{n_bytes / 1e6:.1f} MB"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def number(value: object, spec: str) -> str:
    return format(float(value), spec) if isinstance(value, (int, float)) else NONE
