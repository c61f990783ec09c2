"""How a typed program uses the API: `mypy` checks this file, nothing runs it."""

from pathlib import Path
from typing import assert_type

from PIL import Image

import cnsctl
from cnsctl.results import ScoreResult, TrainResult


def use(store: cnsctl.Store) -> None:
    """Every public function, with the types that it gives."""
    assert_type(cnsctl.open_store("sd"), cnsctl.Store)
    assert_type(cnsctl.create_store(Path("new"), base="pocket", mode=cnsctl.Mode.MERGED), cnsctl.Store)
    with store.load(device="cuda", dtype=cnsctl.settings.Dtype.BF16) as session:
        assert_type(session, cnsctl.Session)
        run = session.train("dog", ["a.png", Path("b.png")], steps=3)
        for event in run:
            if isinstance(event, cnsctl.events.Step):
                assert_type(event.step, int)
        assert_type(run.result(), TrainResult)
        with session.score("dog", "photos") as scoring:
            assert_type(scoring.result(), ScoreResult)
        assert_type(session.generate("<dog>", seed=1, guidance_scale=3.0), Image.Image)
        assert_type(session.generate(like="a.png", seed=2), Image.Image)
        for image in session.generate_many("<dog>", count=2):
            assert_type(image, Image.Image)
        assert_type(session.verify(), cnsctl.results.VerifyResult)
        assert_type(session.evaluate("dog", images=False), cnsctl.results.EvaluateResult)
    assert_type(cnsctl.info("a.png", Path("b.png")), cnsctl.results.InfoResult)
    with cnsctl.apply_concept(object(), store.show("dog")) as concept:
        assert_type(concept, cnsctl.AppliedConcept)
        assert_type(concept.trigger, str)
    cnsctl.nothing  # type: ignore[attr-defined]  # noqa: B018  a wrong name is found


def handle(err: cnsctl.CnsctlError) -> str:
    """Errors have typed attributes."""
    if isinstance(err, cnsctl.errors.InvalidSettingError):
        return f"{err.name}: {err.allowed}"
    return f"{err.code}: {err.note or err.hint or err.reason}"
