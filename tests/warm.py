"""Processes that have loaded torch and diffusers before they begin: loading takes most of the time of a short process.

Each is a process of its own, with its streams, environment and signals, forked from one that has only imported. What a
test says about the start of Python itself needs a new interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

LOADED = [
    "accelerate", "cnsctl.cli.main", "cnsctl.bases.registry", "cnsctl.engine.generate", "cnsctl.engine.train", "typer",
    "diffusers.models.autoencoders.autoencoder_kl", "diffusers.models.unets.unet_2d_condition",
    "diffusers.schedulers.scheduling_ddim", "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
]  # fmt: skip

_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(LOADED)


@dataclass(frozen=True)
class Streams:
    """File descriptors that the new process has as its own 0, 1 and 2."""

    numbers: tuple[int, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return Streams.received, tuple(DupFd(number) for number in self.numbers)

    @classmethod
    def received(cls, *sent: Any) -> Streams:
        return cls(tuple(one.detach() for one in sent))


class Started:
    """A running process; its stderr, unless it was given, is kept in a file."""

    def __init__(
        self, run: Callable[..., object], args: tuple[object, ...], given: Mapping[str, int], env: dict[str, str]
    ) -> None:
        kept, (read, stdin), (stdout, written) = tempfile.TemporaryFile(), os.pipe(), os.pipe()  # noqa: SIM115
        streams = {"stdin": read, "stdout": written, "stderr": kept.fileno(), **given}
        begun = (Streams(tuple(streams.values())), env, run, args)
        self._process = _forked.Process(target=_begin, args=begun, daemon=True)  # ended with the tests
        self._process.start()
        os.close(read)
        os.close(written)
        self._kept = kept
        self.stdin: IO[str] = os.fdopen(stdin, "w", buffering=1)
        self.stdout: IO[str] = os.fdopen(stdout)

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout: float = 120) -> int:
        """Its exit status, or the negative number of the signal that killed it."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired("a process", timeout)
        return self._process.exitcode

    def finish(self, timeout: float = 120) -> tuple[int, str, str]:
        """Its exit status, what is left of its stdout, and its stderr."""
        if not self.stdin.closed:
            self.stdin.close()
        out = self.stdout.read()
        self.stdout.close()
        code = self.wait(timeout)
        self._kept.seek(0)
        err = self._kept.read().decode(errors="replace")
        self._kept.close()
        return code, out, err

    def end(self) -> None:
        """Kill it, if it still runs, and close what it was given."""
        if self.poll() is None:
            self._process.kill()
        self.finish()


def start(run: Callable[..., object], *args: object, env: Mapping[str, str] | None = None, **given: int) -> Started:
    """Call a function of a module in a new process; stdin, stdout and stderr may be given as file descriptors."""
    return Started(run, args, given, dict(os.environ if env is None else env))


def cnsctl(*args: object) -> None:
    """The installed program; for `start`."""
    from cnsctl.cli.main import run

    sys.argv = ["cnsctl", *map(str, args)]
    run()


def module(name: str, *args: object) -> None:
    """`python -m name`; for `start`."""
    sys.argv = [name, *map(str, args)]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _begin(streams: Streams, env: dict[str, str], run: Callable[..., object], args: tuple[object, ...]) -> None:
    """Become a process as one that was just started."""
    for theirs, number in zip(streams.numbers, (0, 1, 2), strict=True):
        os.dup2(theirs, number)
        os.close(theirs)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(env)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(Path(__file__).parents[1])
    run(*args)
