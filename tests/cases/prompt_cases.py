"""Prompts and files of prompts, as other tools write them."""

from __future__ import annotations

from case_table import FILES, Case, with_images

SMALL = ("--steps", 1, "--size", 32, "--seed", 1, "-o", "out")


def used(name: str, prompt: str, *says: str, seen: str = "", never: tuple[str, ...] = ()) -> Case:
    """A prompt that is generated, with these words said once."""
    return Case(id=name, line=("gen", prompt, *SMALL), says=says, never=never, seen=seen)


def refused(name: str, prompt: str, *says: str, seen: str = "", code: int = 2) -> Case:
    return Case(id=name, line=("gen", prompt, *SMALL), code=code, says=(*says, "hint:"), seen=seen)


def lines(
    name: str, stdin: str | bytes, *says: str, code: int = 0, never: tuple[str, ...] = (), seen: str = ""
) -> Case:
    return Case(id=name, line=("gen", "-", *SMALL), stdin=stdin, says=says, code=code, never=never, seen=seen)


WEIGHTS, NOT_COMBINED = "cnsctl does not weight words", "prompts are not combined"

PROMPTS = [
    refused("R1", "a <lora:dog:0.8> cat", "write <dog:0.8>", seen="InvokeAI#7439"),
    refused("lora-of-others", "a <lora:x:0.8> cat", "is the syntax of another tool"),
    refused("hypernet", "<hypernet:x:1>", "is the syntax of another tool"),
    used(
        "R2",
        "(<dog>:1.2) BREAK [a|b]",
        "write <dog:1.2>",
        "BREAK is used as words",
        "[a|b] is used as words",
        seen="diffusers#2431, compel#5",
    ),
    used("brackets", "a (red) car", "brackets do not weight words here"),
    used("two-brackets", "a ((red)) car", WEIGHTS),
    used("compel", "a red++ car", WEIGHTS),
    used("blend", '("a cat", "a car").blend(0.5, 0.5)', NOT_COMBINED),
    used("and", "a cat AND a car", NOT_COMBINED),
    used("choice", "a {red|blue} car", "alternatives are not chosen from"),
    used("wildcard", "a __colour__ car", "wildcards are not replaced"),
    used("editing", "a [red:blue:0.5] car", "a prompt cannot change between steps"),
    used("embedding", "embedding:easynegative", "embedding files are not read"),
    used("plain", "a red car, on a sunny day!", never=("warning", "did you mean")),
    used("R7", "a photo\r\nof\ta <dog>", never=("warning", "did you mean")),
    used("R9", "a photo of dog", "did you mean <dog>?", seen="diffusers#2182"),
    refused("upper-case", "<DOG>", "did you mean <dog>?", code=4),
    refused("decimal-comma", "<dog:0,8>", "<dog:0.8>"),
    refused("percent", "<dog:80%>", "<dog:0.8>"),
    refused("control", "a \x1b[31mcat", "U+001B"),
    refused("R5-options", "<dog> --n bad --w 128", "--negative-prompt", seen="A1111#248"),
    refused("midjourney", "a dog --ar 16:9", "--size"),
    refused("one-letter", "a dog -s50 -W512", "--steps"),
    refused("copied", "a dog\nNegative prompt: bad\nSteps: 20, Sampler: Euler a", "--negative-prompt"),
]


def misread(name: str, *prompts: str, says: tuple[str, ...], more: tuple[object, ...] = ()) -> Case:
    """Arguments that are not prompts: refused before the store is opened."""

    def make(folder):
        (folder / "prompts").write_text("a cat\n")
        (folder / "prompts.list").write_text("a cat\n")
        (folder / "dog").write_text("a file of this name\n")

    return Case(id=name, line=("gen", *more, *prompts, *SMALL), code=2, says=(*says, "hint:"), make=make)


MISREAD = [
    misread("empty", "", says=("the prompt is empty",)),
    misread("blank", "a cat", "  ", says=("the prompt is empty",)),
    misread("file", "prompts.txt", says=("name of a file: 'prompts.txt'", "cnsctl gen - < prompts.txt")),
    misread("file-that-exists", "./prompts", says=("cnsctl gen - < ./prompts",)),
    misread("file-of-another-kind", "prompts.list", says=("cnsctl gen - < prompts.list",)),
    misread("force", "prompts.txt", says=("-f is --force",), more=("-f",)),
    misread("json", "a.json", says=("cnsctl gen - < a.json",)),
    misread("image", "out/dog-1.png", says=("cnsctl gen --like out/dog-1.png",)),
    misread("lora", "dog.safetensors", says=("cnsctl import dog.safetensors",)),
    misread("unquoted", "dog", "on", "a", "beach", says=("4 prompts of one word each", 'cnsctl gen "dog on a beach"')),
    misread("unquoted-mention", "@dog", "sleeping", says=('cnsctl gen "@dog sleeping"',)),
    misread("unquoted-for-the-shell", "it's", "a", "$5", "cat", says=("""'it'"'"'s a $5 cat'""",)),
    Case(
        id="two-mentions", line=("gen", "<dog>", "@hat", *SMALL), says=("_dog_-1.png", "_hat_-1.png"), never=("quote",)
    ),
    Case(id="no-spaces", line=("gen", "\u732b", "\u72ac", *SMALL), says=("\u732b-1.png", "\u72ac-1.png")),
    Case(id="a-word-that-is-a-file-too", line=("gen", "dog", *SMALL), make=with_images(), says=("dog-1.png",)),
    used("unclosed", "a <dog on a beach", "<dog is used as words: write <dog>", never=("did you mean",)),
    used("spaces", "< dog > and <hat>", "< dog > is used as words: write <dog>"),
    used("not-opened", "<hat> and dog:0.8>", "dog:0.8> is used as words: write <dog:0.8>"),
    used("wide", "\uff1cdog\uff1e", "write <dog>"),
    used("html", "&lt;dog&gt;", "write <dog>"),
    used("comparison", "<dog> x > hat < y", never=("is used as words",)),
]

STREAMS = [
    lines("R4", (FILES / "prompts-bom.txt").read_bytes(), "a-dog-on-a-beach-1.png"),
    lines("utf-16", "a cat\nZoë\n".encode("utf-16"), "a-cat-1.png", "zoë-1.png"),
    lines("utf-16-without-mark", "a cat\n".encode("utf-16-le"), "save the file of prompts as UTF-8", code=3),
    lines("R5", "# a comment\n\n  # another\na cat\n", "a-cat-1.png", never=("comment",), seen="A1111#248"),
    lines("line-ends", b"a cat\r\na car\ra tree", "a-cat-1.png", "a-car-1.png", "a-tree-1.png"),
    lines("nul", b"a\0cat\n", "U+0000", code=3),
    lines("latin-1", "a café\n".encode("latin-1"), "hint:", code=3),
    lines(
        "nothing", "\n\n", "no prompt on standard input", "gen - < prompts.txt", code=2, never=("load the base model",)
    ),
    lines("comments-only", "# a\n", "no prompt on standard input", code=2, never=("load the base model",)),
    lines("options", "<dog> --n bad\na cat\n", "--negative-prompt", "a-cat-1.png", code=3),
]
