"""The page for users of diffusers: its commands and its code run on pocket, in order."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import pytest
from commands import cnsctl
from synthetic_stores import make_store

from cnsctl.bases.base_folder import POCKET
from cnsctl.engine import lora_effect

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "docs/how-to/use-in-diffusers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_commands_and_the_code_of_the_page_run(tmp_path, monkeypatch):
    make_store(tmp_path / "store", POCKET, copy=True, dog="dog")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNSCTL_STORE", "store")
    for name in ("calibration_prompts", "measured_prompts"):  # a few are enough to run
        some = getattr(lora_effect, name)
        monkeypatch.setattr(lora_effect, name, lambda *a, some=some: some(*a)[::40])
    for line in "".join(blocks("sh")).splitlines():
        done = cnsctl(*shlex.split(line)[1:])
        assert done.code == 0, done.err
    names: dict[str, object] = {}
    code = blocks("python")
    assert len(code) >= 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers
        for block in code:
            exec(compile(block, "use-in-diffusers.md", "exec"), names)  # noqa: S102  the page's own code
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "lora.png", "kv.png", "custom-diffusion.png", "merged.png",
    }  # fmt: skip
