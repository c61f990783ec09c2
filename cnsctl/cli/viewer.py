"""Opening an image in the system's viewer.

Owns the choice of the program; must not know what the image shows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cnsctl.errors import CnsctlError

_WAIT_S = 3.0
"""How long to wait for a failure: the program starts a viewer and ends, or is the viewer itself."""


def open_image(file: Path, name: str) -> None:
    """Show a copy of an image file in the system's viewer, and return while it is open.

    Args:
        file: of a store, where files have no suffix.
        name: of the copy, which the viewer shows.

    Raises:
        CnsctlError: there is no viewer, or it fails.
    """
    program = _program()
    if program is None:
        raise _cannot("a program that opens images was not found", file)
    copy = Path(tempfile.mkdtemp(prefix="cnsctl-")) / name
    try:
        shutil.copyfile(file, copy)
    except OSError as err:
        raise _cannot(str(err.strerror), file) from err
    none = subprocess.DEVNULL
    viewer = subprocess.Popen([program, str(copy)], stdin=none, stdout=none, stderr=none, start_new_session=True)
    try:
        status = viewer.wait(_WAIT_S)
    except subprocess.TimeoutExpired:
        return
    if status:
        raise _cannot(f"{Path(program).name} ended with status {status}", file)


def _program() -> str | None:
    """The system's opener; None if there is none, or if there is no screen."""
    if sys.platform == "darwin":
        return shutil.which("open")
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None  # xdg-open would begin a browser in the terminal
    return shutil.which("xdg-open")


def _cannot(why: str, file: Path) -> CnsctlError:
    return CnsctlError(
        f"cannot open the preview: {why}",
        note=f"the preview is the PNG file {file}",
        hint="copy it to a machine with a screen",
    )
