"""`python -m pocket lease prepare | run | collect | restore`: arguments and what is printed."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pocket.errors import PocketError
from pocket.lease import tree
from pocket.terminal import add_machine, answer, device, note, quiet

if TYPE_CHECKING:
    import argparse

ROOT = Path(__file__).parents[2]
BASE = Path("cnsctl/bases/pocket")
LEASES = Path("pocket/leases.json")
PACKAGES = f"{tree.FOLDER}/packages.zip"
COMMAND_CHARACTERS = 2000
STARTED = time.monotonic()
"""Loading torch from a cold disk counts towards the minutes of a run."""


def add_lease(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="step", required=True)
    prepare = commands.add_parser("prepare", help="set aside what need not travel, print the command for the machine")
    _add_run(prepare)
    run = commands.add_parser("run", help="on the machine: train, and write weights every minute")
    run.add_argument("--out", type=Path, required=True, help="folder whose files come back")
    run.add_argument("--work", type=Path, default=Path(tree.FOLDER, "run"), help="folder of the unfinished work")
    run.add_argument("--init", type=Path, default=BASE, help="weights folder to start from")
    run.add_argument("--tiny", action="store_true", help="tiny models: checks the code, not the weights")
    _add_run(run)
    add_machine(run)
    collect = commands.add_parser("collect", help="check what came back, put it into place, restore the tree")
    collect.add_argument("folder", type=Path, help="folder of the files that came back")
    collect.add_argument("--to", type=Path, help=f"weights folder to write (default: {BASE}, which is replaced)")
    commands.add_parser("restore", help="move back what `prepare` set aside")


def _add_run(parser: argparse.ArgumentParser) -> None:
    """What `prepare` passes on to `run`."""
    parser.add_argument("--minutes", type=float, default=9, help="from the start to the last file (default: 9)")
    parser.add_argument("--scenes", type=int, help="how many to render (default: 12000 a minute on a GPU, else 500)")
    parser.add_argument("--batch", type=int, help="samples per step (default: 256 on a GPU, else 32)")
    parser.add_argument("--compile", action="store_true", help="compile the UNet, which takes 100 s first")
    parser.add_argument("--rate-scale", type=float, help="multiplies the learning rate (default: 1)")
    parser.add_argument("--seed", type=int, help="decides scenes and noise (default: the clock)")


def lease(args: argparse.Namespace) -> None:
    {"prepare": _prepare, "run": _run, "collect": _collect, "restore": _restore}[args.step](args)


def machine_command(args: argparse.Namespace) -> str:
    """One line for bash on the other machine, which sets OUT; options are those that the user gave.

    `exec` lets Python receive the signals; the libraries must not look for a network.
    """
    words = ["--minutes", f"{args.minutes:g}"]
    for name in ("scenes", "batch", "rate_scale", "seed"):
        if getattr(args, name) is not None:
            words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    words += ["--compile"] if args.compile else []
    site = f"{tree.FOLDER}/site"
    command = (
        f"python3 -m zipfile -e {PACKAGES} {site} && PYTHONPATH={site} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 "
        f'exec python3 -m pocket lease run --out "$OUT" {shlex.join(words)}'
    )
    assert len(command) < COMMAND_CHARACTERS
    return command


def _prepare(args: argparse.Namespace) -> None:
    from pocket.lease.packages import pack_packages

    tree.restore(ROOT)  # of an earlier lease
    packed = pack_packages(ROOT / PACKAGES)
    tree.set_aside(ROOT)
    try:
        size = tree.check_size(ROOT, ROOT / PACKAGES)
    except PocketError:
        tree.restore(ROOT)
        raise
    note(f"{size / 2**20:.1f} MiB travel, {packed} among them; set aside: {', '.join(tree.ASIDE)}")
    note(f"carry {PACKAGES}; the command needs {args.minutes:g} minutes: allow one more")
    note("afterwards: python -m pocket lease collect FOLDER (or restore, if nothing came back)")
    answer(machine_command(args))


def _run(args: argparse.Namespace) -> None:
    from pocket.lease.training import SCENES_A_MINUTE, SCENES_A_MINUTE_GPU, STAGES, leased
    from pocket.machine import fast_numbers
    from pocket.training.plan import TrainSpec

    on = device(args)
    by_minute = SCENES_A_MINUTE if on == "cpu" else SCENES_A_MINUTE_GPU
    quiet()
    with fast_numbers(args.threads):
        spec = TrainSpec(
            work=args.work,
            stages=STAGES,
            out=args.work / "weights",
            init=args.init,
            minutes=args.minutes - (time.monotonic() - STARTED) / 60,
            last=True,
            n_scenes=int(by_minute * args.minutes) if args.scenes is None else args.scenes,
            seed=args.seed,
            batch=args.batch,
            compiled=args.compile,
            rate_scale=1.0 if args.rate_scale is None else args.rate_scale,
            tiny=args.tiny,
            tiny_steps=None,
            device=on,
        )
        for event in leased(spec, args.out):
            note(f"{time.monotonic() - STARTED:6.1f} s  {event}")


def _collect(args: argparse.Namespace) -> None:
    from pocket.lease.collecting import collected, last_figures, note_lease, write_facts
    from pocket.training.events import Event

    quiet()
    if restored := tree.restore(ROOT):
        note(f"moved back: {', '.join(restored)}")
    base, before = ROOT / BASE, Path(tree.FOLDER, "before")
    record = collected(args.folder, base, args.to, before=ROOT / before)
    text = f"{record['minutes']} minutes on {record['device']}"
    numbers = {"samples": record["samples"], **last_figures(record)}
    note(str(Event(stage="unet", step=record["steps"], text=text, numbers=numbers)))
    if not record["start_is_base"]:
        note(f"these weights were not trained from those in {BASE}")
    if args.to is None:
        total = note_lease(ROOT / LEASES, record)
        note(f"{total:,} samples in all leases ({LEASES}); computing {BASE}_facts.json")
        write_facts(ROOT, base)
    for folder in (before, BASE) if args.to is None else (BASE, args.to):
        answer(f"python -m pocket judge {folder} --sheet {tree.FOLDER}/{folder.name}.png")


def _restore(args: argparse.Namespace) -> None:  # noqa: ARG001 — called as the others
    answer(f"moved back: {', '.join(tree.restore(ROOT)) or 'nothing'}")
