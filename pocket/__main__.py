"""`python -m pocket world | examples | concepts | heldout | train | lease | judge`: the workshop's command line.

Owns arguments and, with `terminal`, the only printing; must not know how any of it is done.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pocket.errors import PocketError
from pocket.lease.commands import add_lease, lease
from pocket.terminal import add_machine, answer, device, note, quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

STAGES = ("tokenizer", "render", "vae", "clip", "latents", "unet", "sheet", "pack")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it was done, 1 when it failed, 2 when it made no sense, 130 when interrupted."""
    args = _parser().parse_args(argv)
    # threads that wait actively for a core that others use: 13 times slower on two busy cores (0.6 to 7.9 s a picture)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded
    try:
        {
            "world": _world,
            "examples": _examples,
            "concepts": _concepts,
            "heldout": _held_out,
            "train": _train,
            "lease": lease,
            "judge": _judge,
        }[args.command](args)
    except PocketError as err:
        note(f"pocket: {err}")
        return 1
    except KeyboardInterrupt:
        note("interrupted; the same command goes on")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pocket", description="Make and judge the embedded base.")
    commands = parser.add_subparsers(dest="command", required=True)
    world = commands.add_parser("world", help="draw scenes of the world")
    world.add_argument("--seed", type=int, default=0, help="of the (first) scene")
    world.add_argument("-o", "--out", type=Path, help="one scene as PNG")
    world.add_argument("--sheet", type=Path, help="a page of captioned scenes as PNG")
    world.add_argument("--count", type=int, default=48, help="scenes on the page")
    examples = commands.add_parser("examples", help="draw the example concepts")
    examples.add_argument("out", type=Path, help="folder; each concept gets a folder in it")
    examples.add_argument("--harder", action="store_true", help="the benchmarks' dog and hat instead")
    concepts = commands.add_parser("concepts", help="draw the held-out concepts of the benchmarks")
    concepts.add_argument("out", type=Path, help="folder; each concept gets a folder in it")
    held_out = commands.add_parser("heldout", help="draw the held-out scenes of the benchmarks")
    held_out.add_argument("out", type=Path, help="folder of the scenes")
    _add_train(commands.add_parser("train", help="train the base, or stages of it, for some minutes"))
    add_lease(commands.add_parser("lease", help="train the UNet on a rented GPU: what travels there and comes back"))
    judge = commands.add_parser("judge", help="measure a weights folder")
    judge.add_argument("folder", type=Path, help="weights, as `train pack` writes them")
    judge.add_argument("--quick", action="store_true", help="fewer prompts: about two minutes on two cores")
    judge.add_argument("--sheet", type=Path, help="write a contact sheet (PNG)")
    judge.add_argument("--eyes", type=Path, help="weights folder whose CLIP looks (default: FOLDER's own)")
    judge.add_argument("--json", action="store_true", help="print JSON instead of a table")
    judge.add_argument("--steps", type=int, help="denoising steps (default: 25, quick 16)")
    judge.add_argument("--guidance", type=float, default=3.0, help="classifier-free guidance")
    judge.add_argument("--seed", type=int, default=0, help="of the first picture")
    judge.add_argument("--limit", type=int, help="only so many prompts")
    add_machine(judge)
    return parser


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; none: all of them in turn")
    train.add_argument("--work", type=Path, required=True, help="folder of the unfinished work; the same one goes on")
    train.add_argument("--out", type=Path, help="weights folder that `pack` writes (default: WORK/weights)")
    train.add_argument("--init", type=Path, help="weights folder that stages without own work start from")
    train.add_argument("--minutes", type=float, default=60, help="for all stages together")
    train.add_argument("--last", action="store_true", help="let the denoiser's learning rate fall to the end")
    train.add_argument("--scenes", type=int, help="how many to render (default: 250000 on a GPU, else 32000)")
    train.add_argument("--seed", type=int, help="decides scenes, noise and new weights (default: the clock)")
    train.add_argument("--decoder-only", action="store_true", help="vae: keep the encoder, so that latents stay")
    train.add_argument("--image-tower-only", action="store_true", help="clip: keep the text tower")
    train.add_argument("--tiny", action="store_true", help="small models, few steps: checks the code, not the weights")
    add_machine(train)


def _world(args: argparse.Namespace) -> None:
    from pocket.sheets import page
    from pocket.world import Draws, scene

    if args.sheet is None and args.out is None:
        raise PocketError("nothing to write", hint="give --sheet PAGE.png, or -o SCENE.png")
    if args.out is not None:
        one = scene(Draws(args.seed))
        one.image.save(args.out, optimize=True)
        note(one.caption)
        answer(str(args.out))
    if args.sheet is not None:
        scenes = [scene(Draws(args.seed + i)) for i in range(args.count)]
        page([(s.image, s.caption) for s in scenes]).save(args.sheet, optimize=True)
        answer(str(args.sheet))


def _examples(args: argparse.Namespace) -> None:
    from pocket.examples import EXAMPLES, HARDER, write_examples

    for path in write_examples(args.out, HARDER if args.harder else EXAMPLES):
        answer(str(path))


def _concepts(args: argparse.Namespace) -> None:
    from pocket.concepts import write_concepts

    for path in write_concepts(args.out):
        answer(str(path))


def _held_out(args: argparse.Namespace) -> None:
    from pocket.heldout import write_held_out

    for path in write_held_out(args.out):
        answer(str(path))


def _train(args: argparse.Namespace) -> None:
    from pocket.machine import fast_numbers
    from pocket.training.plan import TrainSpec, trained

    for stage in args.stages:
        if stage not in STAGES:
            raise PocketError(f"there is no stage {stage!r}", hint=f"stages are {', '.join(STAGES)}")
    spec = TrainSpec(
        work=args.work,
        stages=tuple(args.stages),
        out=args.work / "weights" if args.out is None else args.out,
        init=args.init,
        minutes=args.minutes,
        last=args.last,
        n_scenes=args.scenes,
        seed=args.seed,
        decoder_only=args.decoder_only,
        image_tower_only=args.image_tower_only,
        tiny=args.tiny,
        device=device(args),
    )
    quiet()
    with fast_numbers(args.threads):
        for event in trained(spec):
            note(str(event))


def _judge(args: argparse.Namespace) -> None:
    from pocket.judge.report import Judgement, Progress, judged
    from pocket.judge.table import as_json, as_text
    from pocket.machine import fast_numbers

    what = Judgement(
        folder=args.folder,
        quick=args.quick,
        steps=args.steps,
        guidance=args.guidance,
        device=device(args),
        seed=args.seed,
        limit=args.limit,
        eyes=args.eyes,
        sheet=args.sheet,
    )
    quiet()
    with fast_numbers(args.threads):
        for event in judged(what):
            if isinstance(event, Progress):
                note(event.text)
            else:
                answer(as_json(event) if args.json else as_text(event))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what training has learned is written, as at Ctrl-C
    sys.exit(main())
