"""The documents agree with the code and with each other."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS]
SOURCES = sorted(p for folder in ("cnsctl", "pocket", "benchmarks", "docs") for p in (ROOT / folder).rglob("*.py"))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = generator().pages()


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_up_to_date(name):
    page = (ROOT / "docs/reference" / name).read_text(encoding="utf-8")
    assert page == GENERATED[name], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_of_a_page_lead_to_files_and_headings_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def test_documents_that_code_mentions_exist():
    mentions = {
        (relative(source), name)
        for source in SOURCES
        for name in re.findall(r"\bdocs/[\w/.-]*\w\.(?:md|png|jpg|py)\b", source.read_text(encoding="utf-8"))
    }
    assert mentions
    assert {mention for mention in mentions if not (ROOT / mention[1]).exists()} == set()


def test_the_page_of_json_has_every_module_of_results():
    modules = {path.stem for path in (ROOT / "cnsctl/results").glob("*.py")}
    assert set(generator().RESULTS) == modules - {"__init__", "json_object", "result"}


def test_the_index_links_every_page():
    index = ROOT / "docs/README.md"
    linked = {(index.parent / t.split("#")[0]).resolve() for t in re.findall(r"\]\(([^)\s]+)\)", prose(index))}
    assert {relative(page) for page in DOCS if page != index} <= {relative(p) for p in linked if p.is_relative_to(ROOT)}


def test_the_first_screen_of_the_readme_ends_with_the_status():
    screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:25]
    assert screen[0] == "# cnsctl"
    assert len([line for line in screen if line.startswith("- **")]) == 4
    assert [line for line in screen if line.startswith("Status: ")]


def test_the_page_of_images_names_every_key_in_an_image(tiny_folder, tmp_path):
    from commands import at, cnsctl
    from PIL import Image

    assert cnsctl("init", "--base", tiny_folder, *at(tmp_path / "store")).code == 0
    assert (
        cnsctl("gen", "a dog", "--seed", 1, "--steps", 1, "-o", tmp_path / "a.png", *at(tmp_path / "store")).code == 0
    )
    with Image.open(tmp_path / "a.png") as image:
        keys = set(json.loads(image.text["cnsctl"]))
    page = (ROOT / "docs/reference/png-text.md").read_text(encoding="utf-8")
    assert keys == set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))


def command_lines(page: Path) -> list[list[str]]:
    """The words of each command line in a page's blocks of code, up to the first pipe."""
    text = page.read_text(encoding="utf-8")
    scripts = "".join(re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))
    lines = re.findall(r"^(?: {4,}|\$ )(cnsctl [^|;&\n]+)", text, flags=re.MULTILINE)
    lines += re.findall(r"^(cnsctl [^|;&\n]+)", scripts, flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines if line.count("'") % 2 == line.count('"') % 2 == 0]


@pytest.mark.parametrize("page", [p for p in PAGES if "reference" not in p.parts], ids=relative)
def test_command_lines_of_a_page_have_commands_and_flags_that_exist(page):
    import typer

    from cnsctl.cli.main import make_app

    commands = typer.main.get_command(make_app()).commands
    for _, verb, *words in (line for line in command_lines(page) if len(line) > 1 and not line[1].startswith("-")):
        assert verb in commands, (verb, *words)
        known = {
            "--help",
            *(flag for option in commands[verb].params for flag in (*option.opts, *option.secondary_opts)),
        }
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, (verb, *words)


def test_every_command_and_every_class_of_error_has_its_place():
    """The generator itself must not lose anything."""
    from cnsctl import errors
    from cnsctl.cli.main import GROUPS

    assert all(f"## cnsctl {verb}\n" in GENERATED["cli.md"] for verbs in GROUPS.values() for verb in verbs)
    codes = {c.code for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.CnsctlError)}
    assert all(f"| `{code}` |" in GENERATED["errors.md"] for code in codes)
    assert "invalid-setting" in codes
