"""The benchmark of exported files: a stock pipeline reads them as cnsctl computes, and the page has every table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_samples import named, prompt, synthetic

from benchmarks.exports.files import DIFF, EMBEDDING, EXACT, LORA, Exporter, Way
from benchmarks.exports.page import page
from benchmarks.exports.stock import Asked, Stock
from benchmarks.exports.tables import OTHERS, OWN, TWO, Line
from cnsctl.engine.lora_effect import change_of, difference, errors_through
from cnsctl.engine.lora_fit import LEAK, RANK
from cnsctl.engine.seeds import fold


@pytest.fixture(scope="module")
def exporter(tiny, tmp_path_factory) -> Exporter:
    concepts = {"rex": synthetic(tiny, 1), "tom": synthetic(tiny, 2, word="cat")}
    return Exporter(base=tiny, folder=tmp_path_factory.mktemp("exports"), concepts=concepts)


@pytest.fixture(scope="module")
def stock(tiny, tiny_folder) -> Stock:
    return Stock(tiny_folder, tiny)


ASKED = Asked(
    text="a <rex> dog in the snow",
    latent=torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(3)),
    noise_seed=fold("noise"),
)


def by_cnsctl(base, exporter, change) -> np.ndarray:
    asked = prompt("a ", named("rex"), " in the snow")
    own = {"rex": exporter.concepts["rex"]}
    (error,) = errors_through(base, own, asked, change, [ASKED.latent[0]], noise_seed=ASKED.noise_seed)
    return error.numpy()


def test_a_stock_pipeline_reads_each_file_as_cnsctl_computes(tiny, exporter, stock):
    rex = exporter.concepts["rex"]
    lora = exporter.fitted(["rex"], Way())[0]
    ways = [
        (exporter.embedding("rex"), None),
        (exporter.lora("rex"), lambda site: change_of(tiny, lora[site])),
        (exporter.exact("rex"), lambda site: difference(tiny, rex, site)),
        (exporter.exact("rex", format=DIFF), lambda site: difference(tiny, rex, site)),
    ]
    found = {}
    for files, change in ways:
        with stock.loaded(files):
            found[files.format] = stock.errors(ASKED)
        np.testing.assert_allclose(found[files.format], by_cnsctl(tiny, exporter, change), rtol=2e-3)
    assert set(found) == {EMBEDDING, LORA, EXACT, DIFF}


def test_after_the_files_the_pipeline_is_as_before(exporter, stock):
    plain = Asked(text="a cat", latent=ASKED.latent, noise_seed=1)
    before = stock.errors(plain)
    for files in (exporter.lora("rex"), exporter.exact("rex", format=DIFF)):
        with stock.loaded(files):
            assert not np.array_equal(stock.errors(plain), before)
        np.testing.assert_array_equal(stock.errors(plain), before)


def test_the_page_has_a_row_for_every_line():
    effect = {"kept": 95.0, "leak": 10.0, "leak_frame": 9.0, "bytes": 1e6}
    lora = f"`lora`, rank {RANK}"
    one = [
        Line(name="cnsctl, `token` mode", removed={"dog": 20.0}),
        *(
            Line(name=n, removed={"dog": v}, **effect)
            for n, v in ((lora, 19.0), ("`lora-exact`", 11.0), ("`embedding`", 9.0))
        ),
    ]
    pair = {"pair dog hat": 5.0, "hat dog hat": 7.0}
    two = [
        Line(name=name, removed=pair, bytes=1.0)
        for name in (
            "cnsctl, `token` mode",
            "`embedding`",
            f"{lora}, two files",
            "`lora` of both in one file, rank 16",
            "`lora-exact`, two files",
            "`lora-exact`, two files at half strength",
        )
    ]
    images = [Line(name=n, figures={OTHERS: 99.0, OWN: 20.0}) for n in ("`embedding`", "`lora`", "`lora-exact`")]
    choices = [Line(name=f"λ {LEAK:g}", removed={"dog": 1.0}, figures={TWO: 1.0}, **effect)]
    costs = [Line(name="Stable Diffusion 1.5", figures={"sites": 32.0})]
    text = "\n".join(page({"one": one, "two": two, "images": images, "choices": choices, "costs": costs}, "a machine"))
    for line in (*one, *two, *images, *choices, *costs):
        assert f"| {line.name} |" in text or f"| **{line.name}** |" in text
    assert "91 % of what the weights add" in text
