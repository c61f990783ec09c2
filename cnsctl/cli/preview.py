"""Small previews for terminals.

Owns the escape sequences and which terminal gets which; must not query, read from or write to a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Protocol = Literal["kitty", "iterm2", "blocks"]
"""How a terminal shows images: two protocols for pixels, and coloured half blocks."""

_KITTY_PROGRAMS = {"ghostty", "WezTerm"}
_ITERM2_PROGRAMS = {"iTerm.app", "mintty"}
_CELL_PX = 20
"""Most pixels per column in an image that is sent: dense screens do not show more."""
_CHUNK = 4096
"""Most base64 characters in one kitty sequence, a multiple of four."""


def protocol_of(environ: Mapping[str, str]) -> Protocol | None:
    """Choose by environment variables alone; None if the terminal cannot show an image.

    Terminals are not queried: their reply would arrive on stdin, from which prompts are read.
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if environ.get("NO_COLOR") or term in {"", "dumb", "linux", "vt100"}:
        return None
    if environ.get("TMUX") or environ.get("STY") or term.startswith(("tmux", "screen")):
        return "blocks"  # multiplexers drop unknown escape sequences
    if environ.get("KITTY_WINDOW_ID") or term in {"xterm-kitty", "xterm-ghostty"} or program in _KITTY_PROGRAMS:
        return "kitty"
    if program in _ITERM2_PROGRAMS or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    full_colour = environ.get("COLORTERM") in {"truecolor", "24bit"} or "WT_SESSION" in environ
    if full_colour or ("256color" in term and program != "Apple_Terminal"):
        return "blocks"
    return None


def preview_bytes(pixels: NDArray[np.uint8], *, protocol: Protocol, width_cells: int) -> str:
    """The text that makes a terminal show an image, with a line break at the end.

    Args:
        pixels: (h, w, 3), RGB.
        protocol: see `protocol_of`.
        width_cells: columns to fill, 1 to 500; the height follows from the image.
    """
    from PIL import Image

    if not 1 <= width_cells <= 500:
        raise ValueError(f"a preview is 1 to 500 columns wide, not {width_cells}")
    image = Image.fromarray(pixels)
    if protocol == "blocks":
        height = max(1, round(width_cells * image.height / image.width))
        return "".join(_block_lines(image.resize((width_cells, height), Image.Resampling.BOX)))
    image.thumbnail((width_cells * _CELL_PX, image.height))
    return "".join(_kitty(image, width_cells)) if protocol == "kitty" else _iterm2(image, width_cells)


def _block_lines(image: Image.Image) -> Iterator[str]:
    """Yield a line per two rows of pixels: the upper in the colour of '▀', the lower in its background."""
    width, rgb = image.width, image.tobytes()
    for y in range(0, image.height, 2):
        line, last = [], ""
        for x in range(width):
            upper, lower = (y * width + x) * 3, ((y + 1) * width + x) * 3
            back = f"48;2;{rgb[lower]};{rgb[lower + 1]};{rgb[lower + 2]}" if y + 1 < image.height else "49"
            colours = f"\x1b[38;2;{rgb[upper]};{rgb[upper + 1]};{rgb[upper + 2]};{back}m"
            line.append("▀" if colours == last else f"{colours}▀")
            last = colours
        yield "".join(line) + "\x1b[0m\n"


def _kitty(image: Image.Image, width_cells: int) -> Iterator[str]:
    """Yield the chunks; with `q=2` the terminal does not reply."""
    data = _base64(image)
    keys = f"a=T,f=100,q=2,c={width_cells},"
    for at in range(0, len(data), _CHUNK):
        more = int(at + _CHUNK < len(data))
        yield f"\x1b_G{keys if at == 0 else ''}m={more};{data[at : at + _CHUNK]}\x1b\\"
    yield "\n"


def _iterm2(image: Image.Image, width_cells: int) -> str:
    return f"\x1b]1337;File=inline=1;width={width_cells};preserveAspectRatio=1:{_base64(image)}\a\n"


def _base64(image: Image.Image) -> str:
    import base64
    from io import BytesIO

    file = BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
