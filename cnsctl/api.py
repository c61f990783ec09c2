"""The Python API: the workflows of the command line, with the same names and defaults.

    import cnsctl

    store = cnsctl.open_store("sd")
    with store.load() as session:
        session.train("dog", "photos/", class_word="dog").result()
        session.generate("<dog> on a beach", seed=7).save("out.png")

Owns the public names; must not know how anything is done: each call goes into `cnsctl.app`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from cnsctl.concept import DEFAULT_MODE, Mode

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from types import TracebackType

    from PIL import Image

    from cnsctl import results
    from cnsctl.app import session as sessions
    from cnsctl.app.apply import AppliedConcept
    from cnsctl.events import Event
    from cnsctl.store import Store as StoreFolder

R = TypeVar("R")


def open_store(path: str | Path | None = None) -> Store:
    """Open a store.

    Args:
        path: its folder; by default `$CNSCTL_STORE`, else the folder `cnsctl` in the platform's user-data folder.

    Raises:
        StoreNotFoundError: there is no store.
        StoreDamagedError: its manifest cannot be read.
    """
    from cnsctl.app import stores

    return Store(stores.open_store(_path(path)))


def create_store(
    path: str | Path | None = None,
    *,
    base: str | Path | None = None,
    mode: Mode | str = DEFAULT_MODE,
    copy: bool = False,
) -> Store:
    """Create a store on a base model.

    Args:
        path: its folder, which must be empty or missing.
        base: a local diffusers folder; by default pocket, the model inside the package.
        mode: `token`, `prompt` or `merged`; fixed for this store.
        copy: copy the base model into the store; otherwise its folder must stay where it is.

    Raises:
        UsageError: something else is at the path.
        BaseModelError: the base model cannot be used.
    """
    from cnsctl.app import stores

    Run(stores.create(_path(path), base=_path(base), mode=mode, copy=copy)).result()
    return open_store(path)


class Store:
    """A folder of concepts on one base model. Reading it takes no lock and loads no model."""

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.path

    @property
    def mode(self) -> Mode:
        """Which deltas act on a prompt."""
        return self._folder.mode

    def list(self) -> results.ListResult:
        """The concepts of the store, as `cnsctl ls` lists them."""
        from cnsctl.app import concepts

        return Run(concepts.listed(self._folder)).result()

    def show(self, name: str, *, overlaps: bool = False) -> results.ShowResult:
        """Everything about one concept.

        Args:
            name: of the concept.
            overlaps: count the neurons shared with each other concept, which reads all of them.

        Raises:
            ConceptNotFoundError: there is no such concept.
        """
        from cnsctl.app import concepts

        return concepts.show(self._folder, name, overlaps=overlaps)

    def rename(self, old: str, new: str) -> results.RenameResult:
        """Rename a concept; its bytes stay the same.

        Raises:
            ConceptNotFoundError, InvalidNameError, NameTakenError: by the names.
        """
        from cnsctl.app import concepts

        return Run(concepts.rename(self._folder, old, new)).result()

    def remove(self, *names: str) -> results.RemoveResult:
        """Remove concepts: all of those named, or none.

        Raises:
            ConceptNotFoundError: one of them is missing.
        """
        from cnsctl.app import concepts

        return Run(concepts.remove(self._folder, names)).result()

    def load(self, *, device: str = "auto", dtype: str = "auto") -> Session:
        """Load the base model. Use the session as a context manager: it frees the memory at the end.

        Args:
            device: `auto`, `cuda`, `mps` or `cpu`.
            dtype: `auto`, `fp32`, `bf16` or `fp16` (generates only).

        Raises:
            BaseModelError: the base model is missing, or is another one.
        """
        from cnsctl.app import session

        return Session(session.start(self._folder, {"device": device, "dtype": dtype}, hash_weights=True))


class Session:
    """A store with its base model loaded."""

    def __init__(self, loaded: sessions.Session) -> None:
        self._loaded: sessions.Session | None = loaded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the base model's memory. The session cannot be used afterwards."""
        if self._loaded is not None:
            from cnsctl.app.session import free_memory

            device, self._loaded = self._loaded.device, None
            free_memory(device)

    def train(
        self,
        name: str,
        images: str | Path | Sequence[str | Path],
        *,
        class_word: str | None = None,
        holdout: int = 0,
        replace: bool = False,
        allow_forgetting: bool = False,
        **settings: Any,
    ) -> Run[results.TrainResult]:
        """Train a concept and save it in the store. Nothing happens until the run is iterated or asked for its result.

        Args:
            name: of the concept: `<name>` in prompts.
            images: a folder of images, image files, or several of either.
            class_word: what kind of thing it is; by default the name, if the base model knows each of its words.
            holdout: keep the last images for evaluation.
            replace: replace the concept of this name.
            allow_forgetting: in merged mode, save even if an earlier concept loses more than 5 points.
            settings: fields of `TrainSettings`; the base model sets the rest.

        Raises:
            NameTakenError, ImageError, InvalidSettingError, NotSavedError: when the run is iterated.
        """
        from cnsctl.app.train import train

        request = _request(name, images, class_word, settings, holdout=holdout)
        request = _with(request, replace=replace, allow_forgetting=allow_forgetting)
        return Run(train(self._session.store, request, session=self._session))

    def score(
        self,
        name: str,
        images: str | Path | Sequence[str | Path],
        *,
        class_word: str | None = None,
        holdout: int = 0,
        **settings: Any,
    ) -> Run[results.ScoreResult]:
        """Select the neurons that `train` with the same arguments would train; saves nothing."""
        from cnsctl.app.score import score

        request = _request(name, images, class_word, settings, holdout=holdout)
        return Run(score(self._session.store, request, session=self._session))

    def generate(self, prompt: str, *, seed: int = 0, negative_prompt: str = "", **settings: Any) -> Image.Image:
        """Generate one image.

        Args:
            prompt: may name concepts: `<dog> wearing <hat>`, `<dog:0.8>`.
            seed: of its noise; the same seed gives the same image on the same machine.
            negative_prompt: what the image should not show.
            settings: fields of `GenerateSettings`; the base model sets the rest.

        Raises:
            ConceptNotFoundError: the prompt names a concept that is not in the store.
            InvalidSettingError: a setting is unknown or out of range.
        """
        (image,) = self.generate_many([prompt], seed=seed, negative_prompt=negative_prompt, **settings)
        return image

    def generate_many(
        self,
        prompts: Iterable[str],
        *,
        count: int = 1,
        seed: int = 0,
        negative_prompt: str = "",
        batch_size: int = 1,
        **settings: Any,
    ) -> Iterator[Image.Image]:
        """Generate images, each as soon as it is done, in order.

        Args:
            prompts: each may name concepts.
            count: images per prompt; image k uses seed + k.
            seed: of the first image of each prompt.
            negative_prompt: what the images should not show.
            batch_size: images at a time; 1 makes each independent of the others.
            settings: fields of `GenerateSettings`.
        """
        from PIL import Image

        from cnsctl.app.generate import GenerateRequest, generate
        from cnsctl.events import ImageReady

        request = GenerateRequest(
            prompts=list(prompts),
            negative_prompt=negative_prompt,
            count=count,
            seed=seed,
            save=False,
            batch_size=batch_size,
            settings=settings,
        )
        for event in generate(self._session.store, request, session=self._session):
            if isinstance(event, ImageReady):
                yield Image.fromarray(event.pixels)

    def verify(self, *names: str) -> results.VerifyResult:
        """Check that concepts (by default all) have not changed since training; generates nothing."""
        from cnsctl.app.verify import verify

        return Run(verify(self._session.store, names, session=self._session)).result()

    def evaluate(self, *names: str, images: bool = True) -> results.EvaluateResult:
        """Measure concepts (by default all) and forgetting.

        Args:
            names: of the concepts.
            images: generate images too, for CLIP-I, CLIP-T and drift.
        """
        from cnsctl.app.evaluate import evaluate

        return Run(evaluate(self._session.store, names, images=images, session=self._session)).result()

    @property
    def _session(self) -> sessions.Session:
        if self._loaded is None:
            from cnsctl.errors import UsageError

            raise UsageError("the session is closed", hint="load the store again")
        return self._loaded


class Run(Generic[R]):
    """Work in progress: iterate it for its events, or ask for its result, which does the rest of the work.

    Closing it, or leaving a loop over it, keeps the training state: the same call continues where it stopped.
    """

    def __init__(self, work: Generator[Event, None, R]) -> None:
        self._work = work
        self._running = True
        self._results: list[R] = []

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """The next event."""
        try:
            return next(self._work)
        except StopIteration as done:
            if self._running:
                self._results.append(done.value)
            self._running = False
            raise
        except BaseException:
            self._running = False
            raise

    def result(self) -> R:
        """Do the rest of the work and return the result.

        Raises:
            UsageError: the run was closed, or failed before.
        """
        for _ in self:
            pass
        if not self._results:
            from cnsctl.errors import UsageError

            raise UsageError(
                "this run was stopped before its end", hint="start it again: it continues where it stopped"
            )
        return self._results[0]

    def close(self) -> None:
        """Stop here; training state is kept."""
        self._running = False
        self._work.close()


def apply_concept(
    pipe: Any, concept: str | Path | results.ShowResult, *, name: str | None = None, check: bool = True
) -> AppliedConcept:
    """Put one concept into a stock diffusers pipeline.

    Its values replace those of the pipeline's K and V weights, so it acts on every token of every prompt, as an exported
    checkpoint does. Prompts name it by `AppliedConcept.trigger`.

    Args:
        pipe: a `StableDiffusionPipeline` with the concept's base model.
        concept: a delta file, or what `Store.show` returns.
        name: of its token; by default the concept's name, or the class word of a file.
        check: compare the pipeline with the base model that the concept was trained on; compares only shapes if False,
            which a pipeline in bf16 needs, since rounding changes the fingerprint.

    Returns:
        A handle that removes it again, bit for bit.

    Raises:
        BaseModelError: the pipeline holds another base model.
    """
    from cnsctl.app.apply import apply

    return apply(pipe, concept, name=name, check=check)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _request(
    name: str,
    images: str | Path | Sequence[str | Path],
    class_word: str | None,
    settings: dict[str, Any],
    *,
    holdout: int,
) -> Any:
    from cnsctl.app.requests import TrainRequest

    sources = [images] if isinstance(images, (str, Path)) else list(images)
    return TrainRequest(
        name=name,
        sources=[Path(source) for source in sources],
        class_word=class_word,
        settings=settings,
        holdout=holdout,
    )


def _with(request: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(request, **changes)
