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

from cnsctl.errors import UsageError

_WAIT_S = 3.0
"""How long to wait for a failure: the program starts a viewer and ends, or is the viewer itself."""


def open_image(file: Path, name: str) -> None:
    """Show a copy of an image file in the system's viewer, and return while it is open.

    Args:
        file: of a store, where files have no suffix.
        name: of the copy, which the viewer shows.

    Raises:
        UsageError: a viewer is missing, or it fails.
    """
    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise _cannot("DISPLAY is not set", file)  # xdg-open would begin a browser in the terminal
    name_of_program = "open" if sys.platform == "darwin" else "xdg-open"
    if (program := shutil.which(name_of_program)) is None:
        raise _cannot(f"{name_of_program} is not installed", file)
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
        raise _cannot(f"{name_of_program} ended with status {status}", file)


def _cannot(why: str, file: Path) -> UsageError:
    return UsageError(
        f"cannot open the preview: {why}",
        note=f"the preview is the PNG file {file}",
        hint="copy it to a machine with a screen",
    )
