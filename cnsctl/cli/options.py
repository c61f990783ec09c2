"""Options of the verbs: those that several share, and those that `cnsctl.settings` declares.

Owns how a declaration becomes a flag; must not know what verbs do with it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cnsctl.concept import plain_name
from cnsctl.errors import InvalidSettingError
from cnsctl.settings import BY_BASE, Setting, settings_of, shorthands_of


def _plain(given: Any) -> Any:
    """A name, or several, without the signs that it has in prompts."""
    return [plain_name(name) for name in given] if isinstance(given, list) else given and plain_name(given)


def name_argument(metavar: str, help: str) -> Any:  # noqa: A002  typer's word
    """An argument that is a concept's name, or several; `<dog>` and `@dog` are `dog`."""
    return typer.Argument(metavar=metavar, help=help, show_default=False, callback=_plain)


Store = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="DIR", readable=False, help="The store.  [default: $CNSCTL_STORE, else the user-data folder]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, including errors (keys: docs/reference/json.md)")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print bare names or paths, one per line; no progress")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print details: neurons, learning rates, scores")]
YesDownload = Annotated[bool, typer.Option("--yes", "-y", help="Download without confirmation")]
Clip = Annotated[
    str | None,
    typer.Option(
        "--clip",
        metavar="DIR|HUB_ID",
        show_default=False,
        help="CLIP for CLIP-I and CLIP-T.  [default: the base model's own, if its folder contains both halves]",
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="DIR|HUB_ID",
        show_default=False,
        help="Second backbone for the similarity of images, such as DINOv2.  [default: none]",
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        help="How long to wait for another process that writes to the store.  [default: 60]",
        show_default=False,
    ),
]
Concepts = Annotated[list[str], name_argument("CONCEPT...", "Names of concepts")]
AnyConcepts = Annotated[list[str] | None, name_argument("CONCEPT...", "Names of concepts.  [default: all]")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files")]
ClassWord = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="WORD",
        help="Class word, such as dog.  [default: from the folder's layout, else NAME, if it is a common noun]",
        show_default=False,
    ),
]
Holdout = Annotated[
    int,
    typer.Option(
        "--holdout", metavar="N", help="Keep the last N images for evaluation.  [default: 0]", show_default=False
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", help="Also search subfolders for images")]
Masks = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        metavar="DIR",
        readable=False,
        help="Grey images of the same names: only what is white is trained",
        show_default=False,
    ),
]

SHORT: Mapping[str, str] = {"count": "-n"}
"""Setting → its short option."""


def flag(name: str) -> str:
    """The option of a setting: `learning_rate` is `--learning-rate`."""
    return f"--{name.replace('_', '-')}"


def flags_of(kind: type) -> list[Setting]:
    """The settings of a class that have a flag: its fields, and values that mean several of them."""
    return [*settings_of(kind).values(), *shorthands_of(kind).values()]


def with_settings(
    **kinds: type | tuple[type, Sequence[str]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb one option for each declared setting.

    Args:
        kinds: by parameter of the verb: a class of settings, or that and the names wanted. The parameter gets a dict of
            the settings that the user gave.
    """
    wanted: dict[str, list[Setting]] = {}
    classes: dict[str, type] = {}
    for parameter, kind in kinds.items():
        cls, names = kind if isinstance(kind, tuple) else (kind, None)
        classes[parameter] = cls
        wanted[parameter] = [s for s in flags_of(cls) if names is None or s.name in names]

    def decorated(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def run(**given: Any) -> None:
            taken = {
                parameter: {
                    s.name: _number(s, value) for s in settings if (value := given.pop(s.name, None)) is not None
                }
                for parameter, settings in wanted.items()
            }
            verb(**given, **taken)

        _sign(run, verb, wanted, classes)
        return run

    return decorated


def _number(setting: Setting, value: Any) -> Any:
    """A number that typer has read as text, because a word may stand there."""
    if not setting.word or value == setting.word:
        return value
    try:
        return setting.kind(value)
    except ValueError as err:
        raise InvalidSettingError(setting.name, value, allowed=setting.allowed) from err


def _sign(
    run: Callable[..., None],
    verb: Callable[..., None],
    wanted: Mapping[str, Sequence[Setting]],
    kinds: Mapping[str, type],
) -> None:
    """Give typer a signature with one parameter per option, in place of the one parameter for all of them."""
    hints = get_type_hints(verb, include_extras=True)
    parameters, annotations = [], {"return": type(None)}
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.name in wanted:
            for setting in wanted[parameter.name]:
                annotations[setting.name] = _annotation(setting, kinds[parameter.name])
                parameters.append(inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None))
        else:
            annotations[parameter.name] = hints[parameter.name]
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    typed = [p.replace(annotation=annotations[p.name]) for p in parameters]
    run.__signature__ = inspect.Signature(typed)  # type: ignore[attr-defined]
    run.__annotations__ = annotations


def _annotation(setting: Setting, cls: type) -> Any:
    kind = str if setting.choices or setting.word else setting.kind
    metavar = "|".join(setting.choices) if setting.choices else None
    option = typer.Option(
        *([SHORT[setting.name]] if setting.name in SHORT else []),
        flag(setting.name),
        metavar=metavar,
        help=_help(setting, cls),
        rich_help_panel=setting.group or None,
        show_default=False,
    )
    return Annotated[kind | None, option]


def _help(setting: Setting, cls: type) -> str:
    """What it does, its range and its default."""
    span = f" ({setting.allowed})" if setting.low is not None or setting.form else ""
    return f"{setting.help}{span}.  [default: {_default(setting, cls)}]"


def _default(setting: Setting, cls: type) -> str:
    if setting.name in shorthands_of(cls):
        return str(BY_BASE)
    if setting.default is not BY_BASE:
        return str(setting.default).lower()
    from cnsctl.app.stores import pocket_defaults

    found = pocket_defaults(cls).get(setting.name)
    return str(BY_BASE) if found is None else f"{BY_BASE}; pocket {found}"
