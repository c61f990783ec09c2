"""Everything that a user reads is in plain English: help, errors, docstrings, documents (CONTRIBUTING.md, last section)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cnsctl
from cnsctl.cli.main import GROUPS, make_app

ROOT = Path(__file__).parents[1]
PACKAGE = Path(cnsctl.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

PATTERNS: Mapping[str, str] = {
    r"(is|are|was|were) no(?! longer)": "negate the verb: is not a, do not exist",
    r"told|tell|tells": "software prints, reports, contains",
    r"nobody": "name who does not",
    r"anew|for ever|for good": "again, always, permanently",
    r"mend|mends|mended|mending": "fix",
    r"slip of the finger|soup|melts?|melted|melting": "say what happens",
    r"pictures?": "image",
    r"draws?|drawn|drawing|drawings|drew": "generate (images), render (scenes)",
    r"learn|learns|learned|learning|learnings|learnt": "train",
    r"stands|stood": "is",
}
"""Words to avoid, and what to write instead."""

ALLOWED: Mapping[str, str] = {
    r"machine learning|continual learning": "the field's name",
    r"(token[- ])?learning[- ]rates?": "the field's term",
    r"(docs/)?(results/)?learning\.md": "a file",
    r"benchmarks[./]learning": "a module",
}
"""What the patterns may find, each with its reason."""

LONGEST = 30
"""Words of a sentence in the README and in the help."""

MESSAGES = r"\w*Error|Note|Warn|Phase"
"""Calls whose strings a user reads."""

ALL_STRINGS = ("cli/hints.py", "cli/tables.py")
"""Modules in which a user reads every string."""


def complaints(text: str) -> list[str]:
    """Each word to avoid, with its neighbours and the advice."""
    text = " ".join(text.split())
    for allowed in ALLOWED:
        text = re.sub(rf"\b(?:{allowed})\b", "…", text, flags=re.IGNORECASE)
    return [
        f"{text[max(0, m.start() - 40) : m.end() + 40]!r}: {advice}"
        for words, advice in PATTERNS.items()
        for m in re.finditer(rf"\b(?:{words})\b", text, flags=re.IGNORECASE)
    ]


def long_sentences(text: str) -> list[str]:
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n|\n[-*#|]|\n\d+\. | \| ", text)
    return [" ".join(s.split()) for s in sentences if len(re.findall(r"[\w<>@'/.-]*\w[\w<>@'/.-]*", s)) > LONGEST]


def prose(page: Path) -> str:
    """A page without code, comments and targets of links."""
    text = page.read_text(encoding="utf-8")
    for code in (r"^```.*?^```", r"<!--.*?-->", r"^(?: {4}|\t).*?$"):
        text = re.sub(code, "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\]\([^)]*\)", "]", without_code(text))


def without_code(text: str) -> str:
    return re.sub(r"``.*?``|`[^`]*`", "X", text)


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Of modules, classes, functions and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def strings(node: ast.AST) -> Iterator[str]:
    """String literals; what is filled into one is an X."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from strings(child)


def messages(tree: ast.AST) -> Iterator[str]:
    """The strings of errors, notes, warnings and phases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if re.fullmatch(MESSAGES, name):
                yield from strings(node)


VERBS = [*(verb for verbs in GROUPS.values() for verb in verbs), "cnsctl"]


@cache
def help_of(verb: str) -> str:
    asked = [] if verb == "cnsctl" else [verb]
    return CliRunner().invoke(make_app(), [*asked, "--help"], env={"COLUMNS": "80"}).output


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_document_is_plain(page):
    assert complaints(prose(page)) == []


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_plain(verb):
    assert complaints(help_of(verb)) == []


def of_modules(texts) -> dict[str, list]:
    """What is wrong in the texts of each module, without those that are right."""
    wrong = {}
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        wrong[relative(path)] = [c for text in texts(path, tree) for c in complaints(text)]
    return {path: found for path, found in wrong.items() if found}


def test_docstrings_are_plain():
    assert of_modules(lambda _, tree: map(without_code, docstrings(tree))) == {}


def test_messages_are_plain():
    def texts(path, tree):
        return strings(tree) if relative(path).removeprefix("cnsctl/") in ALL_STRINGS else messages(tree)

    assert of_modules(texts) == {}


def test_sentences_of_the_readme_are_short():
    assert long_sentences(prose(ROOT / "README.md")) == []


@pytest.mark.parametrize("verb", VERBS)
def test_sentences_of_the_help_are_short(verb):
    text = help_of(verb).split("Exit status:")[0]  # a table in one line
    rows = re.sub(r"^ {2}(\S.*?) {2,}", "\n\n", text, flags=re.MULTILINE)  # each option is a sentence of its own
    assert long_sentences(re.sub(r"\[default:.*?\]", "", rows, flags=re.DOTALL)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("there is no such concept", 1),
        ("it is no longer there", 0),
        ("the picture was drawn anew", 3),
        ("the learning rate of machine learning", 0),
        ("Learned pictures", 2),
        ("a drawback, a pictured scene, northern", 0),
    ],
)
def test_the_patterns_find_words_and_not_parts_of_words(text, found):
    assert len(complaints(text)) == found


def test_a_long_sentence_is_found():
    assert long_sentences("Short. " + "word " * 31 + ". Short.") != []
    assert long_sentences("word " * 29 + ".\n\n" + "word " * 29) == []
