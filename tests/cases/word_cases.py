"""Commands, options and values in the words of other programs; what is wrong is refused before anything is loaded."""

from __future__ import annotations

from case_table import Case, with_images
from image_cases import ADD
from prompt_cases import SMALL

AN_IMAGE = with_images("a.png")


def refused(name: str, *line: object, says: tuple[str, ...], code: int = 2, seen: str = "", make=AN_IMAGE) -> Case:
    return Case(id=name, line=line, code=code, says=says, never=("load the base model",), seen=seen, make=make)


COMMANDS = [
    Case(id="S11-help", line=("help",), says=("Usage: cnsctl", "verify")),
    Case(id="help-of", line=("help", "train"), says=("Usage: cnsctl add",)),
    Case(id="S11-list", line=("list",), says=("dog", "hat")),
    Case(id="train", line=("train", *ADD[1:]), make=with_images("a.png"), says=("1 image of",)),
    Case(id="generate", line=("generate", "a cat", *SMALL), says=("a-cat-1.png",)),
    Case(id="info", line=("info", "dog"), says=("dog",)),
    Case(id="delete", line=("delete", "nope", "-y"), code=4, says=("concept not found: 'nope'",)),
    Case(id="remove", line=("remove", "dog", "nope", "-y"), code=4, says=("concept not found: 'nope'",)),
    Case(id="version", line=("version",), says=("cnsctl ",)),
    Case(id="V", line=("-V",), says=("cnsctl ",)),
    Case(id="h", line=("add", "-h"), says=("Usage: cnsctl add",)),
    refused("near", "verfy", says=("did you mean cnsctl verify?",)),
    refused("status", "status", says=("did you mean cnsctl ls?",)),
    refused("update", "update", says=("pip install --upgrade cnsctl",)),
    refused("unknown", "zzz", says=("cnsctl --help lists the commands",)),
    Case(id="option-first", line=("--json", "-q", "list"), says=('"name": "dog"',)),
    Case(id="version-first", line=("--version", "ls"), says=("cnsctl ",)),
    refused("no-command", "--store", "ls", says=("no command",)),
    refused("no-value", "ls", "--store", says=("--store needs a value", "write --store DIR")),
    refused("init-store", "init", "./mystore", says=("did you mean --store ./mystore?",)),
    refused("init-base", "init", "runwayml/sd15", says=("did you mean --base runwayml/sd15?",)),
    refused("base", *ADD, "--base", "X", says=("it belongs to the store: cnsctl init",)),
    refused("model", *ADD, "--model", "X", says=("it belongs to the store: cnsctl init",)),
    refused("init-pocket", "init", "pocket", says=("did you mean --base pocket?",)),
    Case(id="rm-f", line=("rm", "-f", "nope"), code=4, says=("concept not found: 'nope'",)),
    refused("rm-all", "rm", "--all", says=("cnsctl rm --all -y",)),
    refused("rm-all-names", "rm", "--all", "dog", says=("--all and names",)),
    refused("rm-nothing", "rm", says=("missing argument",)),
    refused("extra", "undo", "x", says=("undo does not take 'x'",)),
    refused("order", "add", "./x", "rex", says=("the name comes before the images", "cnsctl add rex ./x")),
    refused("order-score", "score", "./x", "rex", says=("'./x' is a folder",)),
    refused("no-name", "add", "./x", says=("cnsctl add NAME ./x",)),
    Case(id="typed", line=("add", "rex", "./no"), code=1, says=("not found: './no'",)),
    Case(
        id="link",
        line=("add", "rex", "https://a.b/c.png"),
        code=1,
        says=("'https://a.b/c.png'", "nothing is downloaded"),
    ),
    Case(id="odd-class", line=("add", "x1", "x", "--class", "doog"), make=AN_IMAGE, says=("did you mean 'dog'?",)),
    Case(id="class", line=ADD, make=AN_IMAGE, never=("may not read the class word",)),
    Case(id="one-image", line=ADD, make=AN_IMAGE, says=("1 image is few",)),
    Case(id="two-images", line=ADD, make=with_images("a.png", "b.png"), never=("is few",)),
    Case(
        id="no-effect",
        line=(*ADD, "--orthogonal", "--policy", "exclusive", "--allow-forgetting"),
        make=AN_IMAGE,
        says=("policy, orthogonal, allow_forgetting: without effect in token mode",),
    ),
    Case(id="effect", line=(*ADD, "--seed", 3), make=AN_IMAGE, never=("without effect",)),
    refused("not-whole", "gen", "x", "-n", "many", says=("'many' is not a whole number",)),
]

OPTIONS = [
    refused("S1-flags", *ADD, "--lr", 0.9, says=("did you mean --learning-rate?",)),
    refused("underscores", "gen", "x", "--num_inference_steps", 3, says=("did you mean --steps?",)),
    refused("cfg", "gen", "x", "--cfg", 7, says=("did you mean --guidance-scale?",)),
    refused("W", "gen", "x", "-W", 512, says=("did you mean --width?",)),
    refused("prompt", "gen", "--prompt", "x", says=("give it as PROMPT",)),
    refused("typing-error", "gen", "x", "--guidence-scale", 7, says=("did you mean --guidance-scale?",)),
    refused("exponent", "gen", "x", "--steps", "1e3", says=("write it in digits: 1000",)),
    refused("decimal-comma", "gen", "x", "--guidance-scale", "7,5", says=("write a decimal point: 7.5",)),
    refused("percent", *ADD, "--budget", "10%", says=("write a share instead of percent: 0.1",)),
]

VALUES = [
    Case(
        id="S2",
        seen="SimpleTuner#97",
        line=("gen", "a cat", "--seed", -1, "--steps", 1, "--size", 32, "-o", "out"),
        says=("a-cat-",),
    ),
    refused("seed", "gen", "x", "--seed", -2, says=("-1 to 2^62",)),
    Case(
        id="S9",
        seen="diffusers#10139",
        line=("gen", "a cat", "--size", "40X32", "--steps", 1, "--seed", 1, "-o", "out"),
        says=("a-cat-1.png",),
    ),
    Case(
        id="times",
        line=("gen", "a cat", "--size", "40×32", "--steps", 1, "--seed", 1, "-o", "out"),
        says=("a-cat-1.png",),
    ),
    refused("size", "gen", "x", "--size", "16:9", says=("WIDTHxHEIGHT",)),
    Case(
        id="S11-sampler",
        line=("gen", "a cat", *SMALL, "--sampler", "DPM++ 2M Karras"),
        says=("is dpm++2m with sigmas karras",),
    ),
    Case(id="comfy", line=("gen", "a cat", *SMALL, "--sampler", "dpmpp_2m"), says=("is dpm++2m",)),
    refused("sampler", "gen", "x", "--sampler", "dpm2++", says=("did you mean --sampler",)),
    *(
        Case(id=f"device-{d}", line=("gen", "a cat", *SMALL, "--device", d), says=("a-cat-1.png",))
        for d in ("CPU", "cpu:0")
    ),
    refused("gpu", "gen", "x", *SMALL, "--device", "gpu", says=("did you mean --device cuda?",)),
    *(
        Case(id=f"dtype-{d}", line=("gen", "a cat", *SMALL, "--dtype", d), says=("a-cat-1.png",))
        for d in ("float32", "torch.float32")
    ),
    refused("dtype", "gen", "x", *SMALL, "--dtype", "fp8", says=("auto, fp32, bf16, fp16",)),
    refused("policy", *ADD, "--policy", "exclusiv", says=("did you mean --policy exclusive?",)),
    refused("S4", "add", "x1", "x", "--class", "dog " * 60, says=("class word is too long", "--class")),
    refused("half", *ADD, "--dtype", "half", says=("cannot train in fp16",)),
    refused("holdout", *ADD, "--holdout", 1, says=("cannot keep 1 of 1",)),
    refused("no-class", "add", "zorblax", "x", says=("--class dog",)),
]

HOME = (("HOME", "{folder}/home"),)

PLACES = [
    Case(id="E1", seen="huggingface_hub#4292", line=("ls", "--store=~/st"), env=HOME, code=10, says=("/home/st",)),
    Case(id="E1-variable", line=("ls",), env=(*HOME, ("CNSCTL_STORE", "~/st")), code=10, says=("/home/st",)),
    Case(id="E1-output", line=("gen", "a cat", *SMALL[:-1], "~/x.png"), env=HOME, says=("/home/x.png",)),
    Case(id="E1-images", line=("add", "x1", "~/no", "--class", "cat"), env=HOME, code=1, says=("/home/no",)),
    Case(id="E1-base", line=("init", "--store", "~/st", "--base", "~/no"), env=HOME, code=1, says=("/home/no",)),
    Case(id="E1-user", line=("ls", "--store", "~nobody-here/x"), code=2, says=("home folder not found",)),
]
