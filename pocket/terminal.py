"""What the workshop's commands share: options of the machine, silent libraries, and the only printing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, mps (default: cuda where there is one, else cpu)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")


def device(args: argparse.Namespace) -> str:
    """The device asked for, or the best there is."""
    import torch

    if args.device is not None:
        return str(args.device)
    return "cuda" if torch.cuda.is_available() else "cpu"


def quiet() -> None:
    """Silence the progress bars and notes that libraries print while they load models."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    for logging in (of_diffusers, of_transformers):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def answer(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
