"""One bit of each byte of each file flips: a check finds it, or everything still reads as before; never another error."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from cnsctl import formats
from cnsctl.errors import CnsctlError
from cnsctl.formats.bundle import Bundle
from cnsctl.store.records import blobs_of

from .tally import Tally, scratch
from .verbs import build, findings, one_time, opened, state_of

STATE = "work/hat/state.safetensors"


def campaign(every: int = 1) -> Tally:
    """Flip one bit of every nth byte of each file of a store, and of a bundle."""
    tally = Tally()
    with scratch() as folder, one_time():
        world = build(folder / "world")
        _with_training_state(world)
        for path in sorted((world / "s").rglob("*")):
            if path.is_file():
                _flip(path, every, tally, _reading_of(world))
        _flip(world / "in" / "b.zip", every, tally, _bundle_reading(world / "in" / "b.zip"))
    return tally


def _with_training_state(world: Path) -> None:
    """A real one, in place of the texts of the template."""
    import torch

    from cnsctl.engine.training_state import TrainState, state_to_bytes

    folder = world / "s" / "work" / "hat"
    for name in ("latents", "state"):
        (folder / name).unlink()
    (folder / "memory").write_text("off")
    state = TrainState(step=3, parts={"job": "a"}, losses=(1.0, 2.0), tensors={"values": torch.arange(9.0)})
    (world / "s" / STATE).write_bytes(state_to_bytes(state))


Reading = Callable[[], tuple[bool, object]]
"""Returns whether damage is found, and what is read."""


def _flip(path: Path, every: int, tally: Tally, reading: Reading) -> None:
    """Flip bits of one file, one at a time."""
    rng = random.Random(path.name)  # noqa: S311  reproducible on purpose
    whole = path.read_bytes()
    found, right = reading()
    assert not found, "before any damage"
    with path.open("r+b", buffering=0) as file:
        for at in range(rng.randrange(every), len(whole), every):
            where = f"{path.name}, byte {at} of {len(whole)}"
            file.seek(at)
            file.write(bytes([whole[at] ^ 1 << rng.randrange(8)]))
            tally.inputs += 1
            try:
                found, seen = reading()
                if not found and seen != right:
                    tally.loss(where, "it reads as something else, and no check finds it")
            except CnsctlError as err:
                if not str(err).isprintable():
                    tally.loss(where, f"a control character in a message: {err!s:.300}")
            except Exception as err:  # noqa: BLE001  it is counted
                tally.unexpected(where, err)
            file.seek(at)
            file.write(whole[at : at + 1])


def _reading_of(world: Path) -> Reading:
    def read() -> tuple[bool, object]:
        if findings(world):
            return True, None
        store = opened(world)
        seen: list[object] = [state_of(world), store.base, store.mode, store.clip, store.free(), store.runs()]
        for record in store.concepts():
            delta = store.delta(record)
            seen += [dict(record), [store.blob(sha) for sha in blobs_of(record)], _plain(delta)]
        return False, seen

    return read


def _bundle_reading(path: Path) -> Reading:
    def read() -> tuple[bool, object]:
        with formats.opened(path, {}) as bundle:
            assert isinstance(bundle, Bundle)
            return False, [bundle.base, bundle.concepts, [bundle.read(one.name) for one in bundle.concepts]]

    return read


def _plain(delta) -> object:
    """What a delta says, comparable."""
    return [
        [(site, array.tobytes()) for site, array in sorted(part.items())]
        for part in (delta.indices, delta.values, delta.vectors)
    ] + [delta.class_word, delta.mode, dict(delta.recipe)]
