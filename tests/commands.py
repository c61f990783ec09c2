"""Running `cnsctl` inside the test process, as its entry point does."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cnsctl.app import measuring
from cnsctl.cli.main import main

LADDER = {name: getattr(measuring, name) for name in ("FULL", "LEVELS", "LADDER")}
"""How the product measures."""


def measure_little(patch: pytest.MonkeyPatch) -> None:
    """`add` and `eval` measure on one image and two prompts, not on four and ten, and on a slow machine as on a fast one."""
    from cnsctl.app import evaluate

    one = replace(measuring.FULL, places=1, seeds=1)
    patch.setattr(measuring, "FULL", one)
    patch.setattr(measuring, "LEVELS", {**measuring.LEVELS, one.name: one})
    patch.setattr(measuring, "LADDER", ((measuring.MANY, one), *measuring.LADDER[1:]))
    patch.setattr(measuring, "ALWAYS_S", float("inf"))
    patch.setattr(evaluate, "base_probe_texts", lambda: ("a dog on a beach", "a red house"))


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str
    raw: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def cnsctl(*args: object, stdin: str | bytes = "") -> Result:
    """Run a command; stdin and stdout are pipes, as in a script."""
    out, err = io.BytesIO(), io.StringIO()
    kept = sys.stdin, sys.stdout, sys.stderr
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    given = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")  # noqa: SIM115  closed below
    given.buffer.write(stdin if isinstance(stdin, bytes) else stdin.encode())
    given.seek(0)
    sys.stdin, sys.stdout, sys.stderr = given, io.TextIOWrapper(out, "utf-8", write_through=True), err
    code: Any = 0
    try:
        main([str(a) for a in args])
    except SystemExit as leave:
        code = leave.code
    finally:
        sys.stdout.flush()
        raw = out.getvalue()
        sys.stdin, sys.stdout, sys.stderr = kept
        given.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Result(code or 0, raw.decode(errors="replace"), err.getvalue(), raw)


def tree(folder: Path) -> dict[str, bytes]:
    """The files of a store that a command must not change by accident: no caches, no training state, no derived names."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.relative_to(folder).parts[0] not in ("cache", "work", "lock", "base", "names")
    }


def catalogue(folder: Path) -> bytes:
    file = folder / "catalogue.json"
    return file.read_bytes() if file.exists() else b""


def at(store: Path) -> tuple[str, str]:
    return ("--store", str(store))


def needs(program: str) -> pytest.MarkDecorator:
    import shutil

    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, **changes}
