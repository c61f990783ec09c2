"""What is on the pages of `eval --html` and `gallery`."""

from __future__ import annotations

import re

import numpy as np
import pytest
from commands import at, cnsctl

from cnsctl import open_store
from cnsctl.api import CnsctlWarning, Run
from cnsctl.app import report_page
from cnsctl.errors import DiskError
from cnsctl.events import Compared


def alts(text):
    return re.findall(r'alt="([^"]*)"', text)


@pytest.fixture(scope="module")
def evaluation(shared_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "new" / "e.html"
    done = cnsctl("eval", "dog", "--html", path, "--json", *at(shared_store))
    assert done.code == 0, done.err
    return path.read_text(encoding="utf-8"), done.json["concepts"][0]


def test_an_evaluation_shows_the_images_and_the_figures_of_the_result(evaluation):
    text, row = evaluation
    shown = alts(text)
    assert sum("Training image" in alt for alt in shown) == 3
    with_concept = [alt for alt in shown if "&lt;dog&gt; on a beach" in alt]
    with_class = [alt for alt in shown if "a dog on a beach" in alt]
    assert len(with_concept) == len(with_class) > 0
    assert f"{row['error_removed']:.1f} ± {row['error_removed_spread']:.1f} %" in text
    assert "Forgetting" in text
    assert "Ownership by site" in text


def test_an_evaluation_says_where_its_page_is(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "_evaluation", lambda *_: "a page")
    events = list(report_page.measured(None, iter(()), tmp_path / "e.html", force=False))
    assert [event.text for event in events] == [f"page: {tmp_path / 'e.html'}"]
    assert (tmp_path / "e.html").read_text() == "a page"


def full(*_args, **_kwargs):
    raise DiskError("no space left", reason="output")


def test_a_page_that_cannot_be_written_does_not_lose_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "_evaluation", lambda *_: "a page")
    monkeypatch.setattr(report_page, "_keep", full)

    def work():
        yield from ()
        return "the result"

    run = Run(report_page.measured(None, work(), tmp_path / "e.html", force=False))
    with pytest.warns(CnsctlWarning, match="the page was not written: no space left"):
        assert run.result() == "the result"


def test_eval_prints_its_result_and_ends_with_the_error_of_its_page(stocked, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "_keep", full)
    done = cnsctl("eval", "dog", "--no-images", "--html", tmp_path / "e.html", "--json", *at(stocked))
    assert (done.code, [row["name"] for row in done.json["concepts"]]) == (1, ["dog"])
    assert "no space left" in done.err


def test_ownership_by_site_is_that_of_the_store(evaluation, shared_store):
    store = open_store(shared_store)
    shares = [float(share) for share in re.findall(r"<i style=\"width: ([\d.]+)%", evaluation[0])]
    assert len(shares) == store.base().sites
    assert sum(shares) / len(shares) == pytest.approx(100 * (1 - store.list().free.share), abs=0.5)


def test_a_gallery_shows_every_concept_without_a_model(stocked, tmp_path):
    page = tmp_path / "g.html"
    done = cnsctl("gallery", "-o", page, *at(stocked))
    assert (done.code, done.out) == (0, f"page of 2 concepts: {page}\n")
    text = page.read_text(encoding="utf-8")
    assert {"dog", "hat"} <= set(re.findall(r'<section id="([^"]*)"', text))
    assert sum("Training image" in alt for alt in alts(text)) == 6
    (size, *_) = (concept.bytes for concept in open_store(stocked).list().concepts)
    assert f"{size / 1000:.0f} KB" in text
    assert 'cnsctl gen "&lt;dog&gt; on a beach"'.replace('"', "&#34;") in text


def test_a_gallery_names_what_cannot_be_read(stocked, tmp_path):
    store = open_store(stocked)
    (gone,) = store.show("hat").references[:1]
    (stocked / gone).unlink()
    done = cnsctl("gallery", "-o", tmp_path / "g.html", *at(stocked))
    assert done.code == 0
    assert "warning: cannot read an image: Training image 1 of <hat>" in done.err
    assert len(alts((tmp_path / "g.html").read_text())) >= 5


@pytest.mark.parametrize("verb", [("gallery", "-o"), ("eval", "--html")])
def test_a_page_never_replaces_a_file_or_a_folder(stocked, tmp_path, verb):
    (tmp_path / "page.html").write_text("mine")
    done = cnsctl(*verb, tmp_path / "page.html", *at(stocked))
    assert (done.code, (tmp_path / "page.html").read_text()) == (2, "mine")
    assert "--force" in done.err
    assert cnsctl(*verb, tmp_path, *at(stocked)).code == 2


def test_a_page_that_another_process_wrote_meanwhile_stays(stocked, tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    listed = report_page._listed

    def meanwhile(*given):
        page.write_text("theirs")
        return listed(*given)

    monkeypatch.setattr(report_page, "_listed", meanwhile)
    done = cnsctl("gallery", "-o", page, *at(stocked))
    assert (done.code, page.read_text()) == (2, "theirs")
    assert cnsctl("gallery", "-o", page, "--force", *at(stocked)).code == 0
    assert page.read_text() != "theirs"


def test_the_images_without_a_concept_are_named_by_their_prompts():
    images = Compared(
        name="fruit",
        prompts=("a <fruit> on a beach",),
        seeds=(1,),
        images=(np.zeros((4, 4, 3), np.uint8),),
        plain=(np.zeros((4, 4, 3), np.uint8),),
    )
    _, plain = report_page._pairs(images, "apple")
    assert plain.pictures[0].caption == "an apple on a beach, seed 1"
    _, plain = report_page._pairs(images, "")
    assert plain.title == "without the concept, same seeds"


def test_an_empty_store_has_no_gallery(tmp_path):
    assert cnsctl("init", *at(tmp_path / "s")).code == 0
    assert cnsctl("gallery", "-o", tmp_path / "g.html", *at(tmp_path / "s")).code == 4
    assert not (tmp_path / "g.html").exists()


def test_the_python_twins_write_the_same_pages(stocked, tmp_path):
    store = open_store(stocked)
    assert store.gallery(tmp_path / "p.html").concepts == ("dog", "hat")
    assert cnsctl("gallery", "-o", tmp_path / "c.html", *at(stocked)).code == 0
    assert (tmp_path / "p.html").read_bytes() == (tmp_path / "c.html").read_bytes()
