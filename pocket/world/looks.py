"""What makes a drawing an individual: colours, pattern, accessory, proportions, shades.

Owns `Look` and how the attributes that nobody named are filled in; must not know pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocket.world.colours import ACCENT, COLOURS, NAMES, PARTNER, RGB, held_out, mix

if TYPE_CHECKING:
    from pocket.world.draws import Draws

PATTERNS = ("plain", "spotted", "striped", "patched")
ACCESSORIES = ("scarf", "bow tie", "glasses")

UNSEEN_PATTERNS = ("checked", "starred", "ringed", "halved")
UNSEEN_ACCESSORIES = ("flower", "eye patch", "medal", "moustache")
"""What no training scene shows: concepts may have it."""

USUAL = {
    "dog": "brown orange white gray black yellow",
    "cat": "orange gray black white brown",
    "rabbit": "white brown gray pink",
    "fox": "orange orange red brown gray",
    "lion": "yellow orange brown",
    "elephant": "gray gray blue purple",
    "horse": "brown brown white black gray",
    "frog": "green green cyan yellow",
    "owl": "brown gray white purple",
    "penguin": "black blue gray",
    "fish": "orange blue yellow cyan red pink",
    "car": "red blue yellow green orange white",
    "rocket": "white gray red blue",
    "house": "white yellow brown pink cyan",
    "castle": "gray gray brown pink purple",
    "tree": "green green orange yellow",
    "cactus": "green green cyan",
    "mushroom": "red red brown orange purple",
    "apple": "red red green yellow",
    "boot": "brown black red yellow",
    "balloon": "red blue yellow pink green purple",
    "robot": "gray gray cyan white blue orange",
    "top hat": "black black purple red blue",
    "crown": "yellow yellow white orange",
}
"""Per thing: the colours that suit it, the usual one first; repeated ones are likelier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One individual, whatever it is an individual of."""

    main: str
    """Name of the body's colour."""
    second: str
    """Name of the colour of pattern, belly, roof, ..."""
    accent: str
    """Name of the colour of small parts and of the accessory."""
    pattern: str
    """One of PATTERNS or UNSEEN_PATTERNS."""
    accessory: str | None
    """One of ACCESSORIES or UNSEEN_ACCESSORIES, or none."""
    p: tuple[float, float, float, float]
    """Proportions, in training 0..1. Which part each of them stretches is up to the drawing; patterns read the last two."""
    shade: tuple[float, float, float]
    """How much lighter (> 0) or darker (< 0) main, second and accent are than their names say."""

    def rgb(self, role: str) -> RGB:
        """The colour of `main`, `second` or `accent` in this individual's own shade."""
        name, shade = {
            "main": (self.main, self.shade[0]),
            "second": (self.second, self.shade[1]),
            "accent": (self.accent, self.shade[2]),
        }[role]
        return mix(COLOURS[name], (255, 255, 255) if shade > 0 else (0, 0, 0), abs(shade))


def usual(word: str, main: str | None = None) -> tuple[str, str, str]:
    """Main, second and accent colour of the individual that a bare word names, or that its main colour alone names."""
    main = USUAL[word].split()[0] if main is None else main
    return main, PARTNER[main], ACCENT[main]


def look(
    draws: Draws,
    word: str,
    *,
    main: str | None = None,
    second: str | None = None,
    accent: str | None = None,
    pattern: str = "plain",
    accessory: str | None = None,
) -> Look:
    """An individual with the given attributes; the others are usual, proportions and shades are drawn."""
    usual_main, usual_second, usual_accent = usual(word, main)
    return Look(
        main=usual_main,
        second=usual_second if second is None else second,
        accent=usual_accent if accent is None else accent,
        pattern=pattern,
        accessory=accessory,
        p=(draws.random(), draws.random(), draws.random(), draws.random()),
        shade=(_shade(draws), _shade(draws), _shade(draws)),
    )


def unseen(draws: Draws, word: str, *, accessory: str | None = None) -> Look:
    """An individual with a pair of colours that no training scene shows, and any pattern."""
    while True:
        main, second, accent = draws.one_of(NAMES), draws.one_of(NAMES), draws.one_of(NAMES)
        if len({main, second, accent}) == 3 and held_out(main, second):
            break
    x = draws.random()
    pattern = "plain" if x < 0.5 else "spotted" if x < 0.67 else "striped" if x < 0.84 else "patched"
    return look(draws, word, main=main, second=second, accent=accent, pattern=pattern, accessory=accessory)


def _shade(draws: Draws) -> float:
    return 0.24 * draws.random() - 0.12
