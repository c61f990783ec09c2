"""The page about concepts in a script: its example runs on pocket and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import EXAMPLES

import cnsctl
from cnsctl.metrics.forgetting import psnr

PAGE = (Path(__file__).parents[2] / "docs/how-to/apply-concept.md").read_text(encoding="utf-8")
STEPS = 2


@pytest.mark.slow
def test_the_example_runs_and_leaves_the_pipeline_as_it_was_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = cnsctl.create_store("store")
    with store.load() as session:
        for name, word in (("dog", "dog"), ("hat", "top hat")):
            given = {"steps": 2, "batch_size": 1, "preview": False, "measure": False}
            session.train(name, min((EXAMPLES / name).glob("*.png")), class_word=word, **given).result()
        ours = session.generate(
            "<dog> wearing a <hat>", seed=7, steps=STEPS, negative_prompt="blurry", guidance_scale=7.5
        )
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    shorter = re.sub(r"num_inference_steps=\d+", f"num_inference_steps={STEPS}", example)
    first, second = shorter.split("hat.remove()\n")
    names: dict[str, object] = {}
    exec(compile(first, "apply-concept.md", "exec"), names)  # noqa: S102  the page's own code
    pipe, found = names["pipe"], names["image"]
    assert isinstance(found, type(ours))
    assert psnr(np.asarray(found), np.asarray(ours)) >= 50
    exec(compile("hat.remove()\n" + second, "apply-concept.md", "exec"), names)  # noqa: S102
    fresh = type(pipe).from_pretrained(store.path / "base")
    for part in ("unet", "text_encoder"):
        expected = getattr(fresh, part).state_dict()
        assert all(torch.equal(W, expected[name]) for name, W in getattr(pipe, part).state_dict().items())
    assert len(pipe.tokenizer) == len(fresh.tokenizer)
