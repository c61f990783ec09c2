"""Prompts and files of prompts, as other tools write them."""

from __future__ import annotations

from case_table import FILES, Case

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

STREAMS = [
    lines("R4", (FILES / "prompts-bom.txt").read_bytes(), "a-dog-on-a-beach-1.png"),
    lines("utf-16", "a cat\nZoë\n".encode("utf-16"), "a-cat-1.png", "zoë-1.png"),
    lines("utf-16-without-mark", "a cat\n".encode("utf-16-le"), "save the file of prompts as UTF-8", code=3),
    lines("R5", "# a comment\n\n  # another\na cat\n", "a-cat-1.png", never=("comment",), seen="A1111#248"),
    lines("line-ends", b"a cat\r\na car\ra tree", "a-cat-1.png", "a-car-1.png", "a-tree-1.png"),
    lines("nul", b"a\0cat\n", "U+0000", code=3),
    lines("latin-1", "a café\n".encode("latin-1"), "hint:", code=3),
    lines("nothing", "\n\n", "the standard input contains no prompt"),
    lines("options", "<dog> --n bad\na cat\n", "--negative-prompt", "a-cat-1.png", code=3),
]
