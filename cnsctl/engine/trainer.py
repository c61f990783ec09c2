"""The state of a training run: token embeddings, values, their optimizers, and what a step does to them.

Owns the state and a single step; must not know phases, events or files.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from cnsctl.concept import Mode
from cnsctl.engine import neurons, optim
from cnsctl.engine.overlay import site_weight
from cnsctl.engine.processes import ALONE, Processes
from cnsctl.engine.projection import Projection, directions
from cnsctl.engine.prompt_tokens import SplicedText, features, splice
from cnsctl.engine.regularization import Pull
from cnsctl.engine.seeds import stream
from cnsctl.engine.site_values import SiteValues, Weights, products
from cnsctl.engine.training_state import TrainState
from cnsctl.errors import CnsctlError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnsctl.bases.protocol import Base, TextFeatures
    from cnsctl.engine.job import Job


GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


class Trainer:
    """The state of one training run: token embeddings, values and their optimizers.

    Args:
        base: is not changed.
        job: what to train, and how.
        processes: that share each step.
    """

    def __init__(self, base: Base, job: Job, processes: Processes = ALONE) -> None:
        self.base, self.job, self.processes, settings = base, job, processes, job.settings
        mean = {e: t.mean(0) for e, t in base.embeddings(job.class_word).items()}
        self.vectors = {e: torch.nn.Parameter(m.repeat(settings.token_embeddings, 1)) for e, m in mean.items()}
        if settings.token_embeddings > 1:  # equal embeddings would get equal gradients
            for e, v in self.vectors.items():
                spread = torch.randn(v.shape, generator=stream("vectors", settings.seed, e)).to(v.device)
                v.data += 0.05 * mean[e].std() * spread
        self.vector_optimizers = {e: optim.adamw(v, settings.token_learning_rate) for e, v in self.vectors.items()}
        self.weight = None if base.stacked_sites is None else _starting_weights(base, base.stacked_sites, job)
        """Starting weights of all sites as one matrix; None if memory is saved."""
        self.sites = _rows(base)
        self.n_rows = [rows for rows, _ in base.shapes.values()]
        self.start: Mapping[str, torch.Tensor] = (
            Weights(base, partial(_starting_weight, job))
            if self.weight is None
            else {site: self.weight[rows] for site, rows in self.sites.items()}
        )
        self.values: optim.IndexedValues | SiteValues | None = None
        self.value_optimizer: torch.optim.AdamW | None = None
        self.projection: Projection | None = None
        known = {p.text: splice(base, p, {job.name: job.slot}) for prompts in job.texts for p in prompts}
        self.texts = [
            [known[p.text] for p in prompts] for prompts in job.texts
        ]  # one object per text, so that it is encoded once
        self.warmup = min(settings.steps, max(0, round(settings.warmup * settings.steps)))
        self.done = 0
        self.losses: list[float] = []

    def train_on(self, mask: neurons.Mask) -> None:
        """Also train the values of this mask from now on. In merged mode `start` changes with them."""
        if self.weight is None:
            self.values = SiteValues(self.start, mask)
        else:
            # outside merged mode the matrix is the base model's own, which is never written to
            weight = self.weight if self.job.mode is Mode.MERGED else self.weight.clone()
            self.values = optim.IndexedValues(weight, self.sites, mask)
        self.value_optimizer = optim.adamw(self.values.values, self.job.settings.learning_rate)
        self.pull = Pull(self.base, self.job, self.values)
        if self.job.settings.orthogonal and self.job.prior.concepts:
            self.projection = Projection(directions(self.base, self.job.prior), mask, self.base.shapes)

    def step(self) -> float:
        """One optimizer step; returns the denoising loss."""
        settings, base = self.job.settings, self.base
        random = stream("train", settings.seed, self.done)
        bucket, size = self._bucket(), settings.batch_size * settings.accumulate
        rows = [bucket[i] for i in _spread_choice(len(bucket), size, random)]
        texts = [self.texts[i][int(torch.randint(len(self.texts[i]), (1,), generator=random))] for i in rows]
        u = (torch.arange(size) + torch.rand(size, generator=random)) / size
        times = (u * base.n_times).long().clamp(max=base.n_times - 1)[torch.randperm(size, generator=random)]
        noise = torch.randn((size, *self.job.latents[rows[0]].shape), generator=random)
        found = 0.0
        share = self.processes.share(size)
        for i in range(share.start, share.stop, settings.batch_size):
            part = slice(i, min(i + settings.batch_size, share.stop))
            latents = torch.stack([self.job.latents[row] for row in rows[part]]).to(base.device)
            noisy, target = base.noised(latents, noise[part].to(base.device), times[part])
            keys_values, features = self._keys_values(texts[part])
            frames = [self.job.frames[row] for row in rows[part]] if self.job.frames else None
            with base.bind(keys_values, features):
                loss = self._loss(base.denoise(noisy, times[part], frames), target, rows[part])
                if (weight := len(latents) / size) != 1:
                    loss = loss * weight
                loss.backward()  # type: ignore[no-untyped-call]
            found += float(loss.detach())
        found = self._averaged(found)
        if not math.isfinite(found):
            raise CnsctlError(
                f"the loss is {found} at step {self.done + 1}", hint="use lower learning rates", reason="loss"
            )
        self._update()
        self.done += 1
        self.losses.append(found)
        return found

    def _bucket(self) -> list[int]:
        """The images of this step, which are all of one shape: each bucket's turn comes as often as it has images.

        The turns are multiples of the golden ratio from a random start: in any number of steps each bucket has its share
        up to about one step, which independent random choices have only in the long run.
        """
        buckets = _buckets(self.job)
        if len(buckets) == 1:
            return buckets[0]
        start = float(torch.rand(1, generator=stream("buckets", self.job.settings.seed)))
        place = (start + self.done * GOLDEN_RATIO) % 1 * len(self.job.latents)
        ends = accumulate(len(bucket) for bucket in buckets)
        return next(bucket for bucket, end in zip(buckets, ends, strict=True) if place < end)

    def _loss(self, found: torch.Tensor, target: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Mean squared error; of an image with a mask, weighted by it, so that each image counts equally."""
        masks = [self.job.masks[i] for i in rows] if self.job.masks else []
        if all(mask is None for mask in masks):
            return F.mse_loss(found, target)
        whole = torch.ones(target.shape[2:])
        weights = torch.stack([whole if mask is None else mask for mask in masks])[:, None].to(target.device)
        weights = weights / weights.mean((2, 3), keepdim=True)  # (b, 1, h, w) with mean 1
        return ((found - target).square() * weights).mean()

    def _averaged(self, loss: float) -> float:
        """Collect the gradient; with several processes, add up theirs and the losses in one flat tensor."""
        if self.values is not None:
            self.values.collect_gradient()
        trained = [*self.vectors.values(), *([] if self.values is None else [self.values.values])]
        for p in trained:
            if p.grad is None and self.processes.count > 1:  # this process has no part in the step
                p.grad = torch.zeros_like(p)
        return self.processes.added_up([p.grad for p in trained if p.grad is not None], loss)

    def _keys_values(self, texts: Sequence[SplicedText]) -> tuple[dict[str, torch.Tensor], TextFeatures]:
        """K and V of every site, (b, t, rows): views of one tensor in the base model's dtype. And the texts' features."""
        distinct = list({id(text): text for text in texts}.values())
        which = {id(text): i for i, text in enumerate(distinct)}
        found = features(self.base, distinct, {self.job.name: self.vectors})
        t, X = found.x.shape[1], found.x.flatten(0, 1)  # (distinct · t, columns)
        own, moved = None, dict[int, int]()
        if self.values is not None and self.job.mode is Mode.TOKEN:
            tokens = [which[id(text)] * t + at for text in distinct for at in text.spans[self.job.name]]
            moved = {row: len(X) + i for i, row in enumerate(tokens)}
            own = torch.tensor(tokens, device=X.device)
        first = [which[id(text)] for text in texts]
        rows = torch.tensor([moved.get(row, row) for i in first for row in range(i * t, (i + 1) * t)], device=X.device)
        if self.weight is None:
            values = self.values if isinstance(self.values, SiteValues) else None
            kvs = products(self.base, X, values, start=self.start, rows=rows, own=own, length=t)
            return kvs, found.rows(first)
        weight = self.values.weight if isinstance(self.values, optim.IndexedValues) else self.weight
        by_token = None if own is None else _OwnTokens.apply(X, self.weight, weight, own)  # type: ignore[no-untyped-call]
        kv = F.linear(X, weight) if by_token is None else by_token
        # index_select, because its gradient is added up by rows, and that of indexing by elements
        kv = kv.index_select(0, rows)  # (b · t, Σ rows)
        if self.base.stacked_biases is not None:
            kv = kv + self.base.stacked_biases
        sites = kv.to(self.base.dtype).view(len(texts), t, -1).split_with_sizes(self.n_rows, dim=2)
        return dict(zip(self.sites, sites, strict=True)), found.rows(first)

    def _update(self) -> None:
        decay = _decay(self.done, self.job.settings.steps)
        optimizers = list(self.vector_optimizers.values())
        rates = [self.job.settings.token_learning_rate] * len(optimizers)
        if self.values is not None and self.value_optimizer is not None:
            self.pull.add_to_gradient()
            optimizers.append(self.value_optimizer)
            rates.append(self.job.settings.learning_rate)
        before = self.values.values.detach().clone() if self.values is not None and self.projection else None
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * decay
            optimizer.step()
        if before is not None:
            self._project_update(before)
        for v in self.vectors.values():
            v.grad = None
        if self.values is not None:
            self.values.values.grad = None
            self.values.write_back()

    @torch.no_grad()
    def _project_update(self, before: torch.Tensor) -> None:
        """Remove from the step's update the part that changes K and V of earlier concepts."""
        assert self.values is not None
        assert self.projection is not None
        v = self.values.values
        for site, part in self.values.parts.items():
            v[part] = before[part] + self.projection.off(site, v[part] - before[part])

    def state(self, parts: Mapping[str, str]) -> TrainState:
        """Everything that a resumed run needs to continue bit-identically."""
        tensors: dict[str, torch.Tensor] = {}
        for e, v in self.vectors.items():
            tensors[f"vectors.{e}"] = v.detach()
            tensors |= optim.moments(self.vector_optimizers[e], f"vectors.{e}")
        if self.values is not None and self.value_optimizer is not None:
            tensors["values"] = self.values.values.detach()
            tensors |= optim.moments(self.value_optimizer, "values")
            tensors |= {f"mask.{site}": flat for site, flat in self.values.mask.items()}
        return TrainState(step=self.done, parts=parts, losses=tuple(self.losses), tensors=tensors)

    @torch.no_grad()
    def resume(self, state: TrainState) -> None:
        """Continue from a state, with the mask that was selected before."""
        self.done, self.losses = state.step, list(state.losses)
        for e, v in self.vectors.items():
            v.copy_(state.tensors[f"vectors.{e}"])
            optim.restore_moments(self.vector_optimizers[e], f"vectors.{e}", state.tensors)
        if "values" in state.tensors:
            self.train_on({site: state.tensors[f"mask.{site}"].to(self.base.device) for site in self.base.sites})
            assert self.values is not None
            assert self.value_optimizer is not None
            self.values.values.copy_(state.tensors["values"])
            optim.restore_moments(self.value_optimizer, "values", state.tensors)
            self.values.write_back()


class _OwnTokens(torch.autograd.Function):
    """X·W₀ᵀ of all n tokens, and below it X·Wᵀ of the concept's own m tokens: (n + m, Σ rows).

    The result of an own token is in the lower part. Its row in the upper part must not be used: its gradient must be
    zero. With autograd's own formulas for selecting and writing rows, a step would launch four more operations.
    """

    @staticmethod
    def forward(ctx: Any, X: torch.Tensor, base: torch.Tensor, weight: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Take X (n, columns), W₀ and W (Σ rows, columns), and the own tokens' rows in X (m,) int64."""
        here = X.index_select(0, own)
        ctx.save_for_backward(here, base, weight, own)
        out = X.new_empty((len(X) + len(own), len(base)))
        torch.mm(X, base.T, out=out[: len(X)])
        torch.mm(here, weight.T, out=out[len(X) :])
        return out

    @staticmethod
    def backward(ctx: Any, G: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor, None]:
        here, base, weight, own = ctx.saved_tensors
        others, trained = G.split_with_sizes([len(G) - len(own), len(own)])
        return (others @ base).index_copy_(0, own, trained @ weight), None, trained.T @ here, None


@torch.no_grad()
def _starting_weights(base: Base, own: torch.Tensor, job: Job) -> torch.Tensor:
    """Starting weights of all sites as one matrix, (Σ rows, columns) fp32; outside merged mode the base model's own."""
    if job.mode is not Mode.MERGED:
        return own
    return torch.cat([_starting_weight(job, W, s) for s, W in base.sites.items()])


@torch.no_grad()
def _starting_weight(job: Job, W: torch.Tensor, site: str) -> torch.Tensor:
    """Starting weight of one site."""
    if job.mode is not Mode.MERGED:
        return W
    return site_weight(W, site, [(c, 1.0) for c in job.prior.concepts.values()], merged=True)


def _rows(base: Base) -> dict[str, slice]:
    """Per site: its rows in the stacked matrix."""
    ends = list(accumulate(rows for rows, _ in base.shapes.values()))
    return {site: slice(end - rows, end) for (site, (rows, _)), end in zip(base.shapes.items(), ends, strict=True)}


def _buckets(job: Job) -> list[list[int]]:
    """Images by the shape of their latents, in the order of their first image."""
    found: dict[tuple[int, ...], list[int]] = {}
    for i in range(len(job.latents)):
        found.setdefault(tuple(job.latents[i].shape), []).append(i)
    return list(found.values())


def _spread_choice(n: int, k: int, generator: torch.Generator) -> list[int]:
    """K indices below n, each equally often: complete shuffles, then a part of one."""
    out: list[int] = []
    while len(out) < k:
        out += torch.randperm(n, generator=generator).tolist()
    return out[:k]


def _decay(step: int, steps: int) -> float:
    """Cosine from 1 to 0.05 over the whole run."""
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))
