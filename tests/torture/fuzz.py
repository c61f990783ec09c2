"""Mutated files and texts: each is refused with a message, or read; no other error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from concept_files import concept, encoded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_samples import make_delta

from cnsctl.data.decoding import decode
from cnsctl.data.other_syntax import refuse
from cnsctl.data.prompt_grammar import parse, slug
from cnsctl.formats import delta
from cnsctl.store import catalogue, manifest

from .hostile import ConceptReading, images
from .tally import Tally, scratch
from .verbs import build

Edit = tuple[str, float, bytes]
"""What happens, where as a share of the length, and with which bytes."""

EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "delete", "repeat"]), st.floats(0, 1), st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)

ALPHABET = st.sampled_from(
    [*"<>@:()[]|,.-_ 01dogtophat\\\"'&\n\0\x1b\u202e\u0301é", "<dog>", "@top-hat", ":1.5", "BREAK"]
)


def campaign(examples: int) -> Tally:
    """Read this many mutated files of each kind, and as many texts."""
    tally = Tally()
    limit = settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    with scratch() as folder:
        for kind, (whole, read) in _readers(folder).items():
            limit(given(EDITS)(_mutating(kind, whole, read, tally)))()

    @limit
    @given(text=st.lists(ALPHABET | st.characters(), max_size=30).map("".join))
    def say(text: str) -> None:
        with tally.reading(f"prompt {text!r}"):
            assert slug(parse(text, {"dog", "top-hat"})).isprintable()
            refuse(text, {"dog"})

    say()
    return tally


def _mutating(kind: str, whole: bytes, read: Callable[[bytes], object], tally: Tally) -> Callable[[list[Edit]], None]:
    def mutate(edits: list[Edit]) -> None:
        with tally.reading(f"{kind}, {edits}"):
            read(edited(whole, edits))

    return mutate


def edited(whole: bytes, edits: list[Edit]) -> bytes:
    data = bytearray(whole)
    for what, share, given_bytes in edits:
        at = int(share * max(0, len(data) - 1))
        if what == "flip" and data:
            data[at] ^= 1 << (given_bytes[0] % 8 if given_bytes else 0)
        elif what == "cut":
            del data[at:]
        elif what == "insert":
            data[at:at] = given_bytes
        elif what == "delete":
            del data[at : at + max(1, len(given_bytes))]
        elif what == "repeat":
            data[at:at] = data[at : at + 64]
    return bytes(data)


def _readers(folder: Path) -> dict[str, tuple[bytes, Callable[[bytes], object]]]:
    """An intact file of each kind, and what reads it."""
    world = build(folder / "world")
    file = folder / "file"

    def through(read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def written(data: bytes) -> object:
            file.write_bytes(data)
            return read(file)

        return written

    reading = ConceptReading(folder / "store")
    images()["a jpeg"](folder / "images")
    return {
        "delta": (delta.write(make_delta(3)), delta.read),
        "bundle": ((world / "in" / "b.zip").read_bytes(), through(reading)),
        "LoRA": (encoded(concept(rank=2), "lora"), through(reading)),
        "embedding": (encoded(concept(), "embedding"), through(reading)),
        "catalogue": ((world / "s" / "catalogue.json").read_bytes(), lambda data: catalogue.unseal(data, "it")),
        "store.json": ((world / "s" / "store.json").read_bytes(), lambda data: manifest.from_bytes(data, "it")),
        "image": ((folder / "images" / "odd.png").read_bytes(), through(decode)),
    }
