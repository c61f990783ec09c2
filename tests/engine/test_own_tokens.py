"""A delta acts on its concept's own tokens only, in modules that are not ours: toy text encoders and a toy denoiser."""

from __future__ import annotations

import pytest
import torch

from cnsctl.engine.own_tokens import OwnTokens, TokenMode
from cnsctl.errors import UsageError

WIDTHS = {"one": 3, "two": 4}
N_IDS = 20


class Encoder(torch.nn.Module):
    """Features of a text, as a tuple like those of transformers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(N_IDS, width)
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = self.norm(self.table(ids))
        return state, state.mean(1)


class Denoiser(torch.nn.Module):
    """One layer that reads K and V."""

    def __init__(self, rows: int = 5) -> None:
        super().__init__()
        self.to_k, self.to_v = (torch.nn.Linear(sum(WIDTHS.values()), rows) for _ in range(2))

    def forward(self, _x: torch.Tensor, _time: int, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.to_k(encoder_hidden_states), self.to_v(encoder_hidden_states)], dim=-1)


class World:
    """Two text encoders, a denoiser, and two concepts with ids 10 and 11, and 12 to 14."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.encoders = torch.nn.ModuleDict({name: Encoder(width) for name, width in WIDTHS.items()})
        self.denoiser = Denoiser()
        self.sites = {"to_k": self.denoiser.to_k, "to_v": self.denoiser.to_v}
        self.deltas = [{site: torch.randn(5, 7) for site in self.sites} for _ in range(2)]
        self.ids = (range(10, 12), range(12, 15))
        self.mode = TokenMode(
            encoders=self.encoders, norms={n: e.norm for n, e in self.encoders.items()}, denoiser=lambda: self.denoiser,
            others=(), sites=self.sites, widths=WIDTHS, check=lambda: None,
        )  # fmt: skip

    def concept(self, k: int, ids: range | None = None) -> OwnTokens:
        found = self.ids[k] if ids is None else ids
        return OwnTokens(key=k, name=f"c{k}", ids=dict.fromkeys(WIDTHS, found), change=self.deltas[k].__getitem__)

    def features(self, ids: torch.Tensor, second: torch.Tensor | None = None) -> torch.Tensor:
        """What a script computes: the features of both encoders side by side."""
        one, two = self.encoders.values()
        return torch.cat([one(ids)[0], two(ids if second is None else second)[0]], dim=-1)

    def expected(self, ids: torch.Tensor, acting: tuple[int, ...]) -> torch.Tensor:
        """By definition: W0 for all tokens, W0 + ΔW for own tokens."""
        X = self.features(ids)
        rows = []
        for site, projection in self.sites.items():
            out = X @ projection.weight.T + projection.bias
            for k in acting:
                own = torch.isin(ids, torch.tensor(list(self.ids[k])))
                changed = X @ (projection.weight + self.deltas[k][site]).T + projection.bias
                out = torch.where(own.unsqueeze(-1), changed, out)
            rows.append(out)
        return torch.cat(rows, dim=-1)


TEXTS = torch.tensor([[0, 10, 11, 5, 12, 13, 14, 1], [0, 3, 12, 13, 14, 4, 1, 1], [0, 5, 6, 7, 8, 9, 1, 1]])


@pytest.mark.parametrize("acting", [(0,), (1,), (0, 1), (1, 0)], ids=str)
def test_each_delta_acts_on_its_own_tokens_only(acting):
    world = World()
    expected = world.expected(TEXTS, acting)
    world.mode.set([world.concept(k) for k in acting])
    torch.testing.assert_close(world.denoiser(None, 0, world.features(TEXTS)), expected)
    torch.testing.assert_close(world.denoiser(None, 0, encoder_hidden_states=world.features(TEXTS)), expected)


def test_taking_the_concepts_out_leaves_no_hook_and_no_buffer():
    world = World()
    modules = [*world.encoders.modules(), *world.denoiser.modules()]
    before = [{key: dict(v) if isinstance(v, dict) else v for key, v in vars(m).items()} for m in modules]
    world.mode.set([world.concept(0), world.concept(1)])
    assert "to_k.own_token_change" not in world.denoiser.state_dict()
    world.mode.set([])
    assert [{key: dict(v) if isinstance(v, dict) else v for key, v in vars(m).items()} for m in modules] == before


def test_a_concept_that_stays_keeps_its_change_and_gets_its_new_ids():
    world = World()
    expected = world.expected(TEXTS, (1,))
    world.mode.set([world.concept(0), world.concept(1)])
    for projection in world.sites.values():
        projection.weight.data.add_(0)  # in place, as a LoRA is fused: it must not be read again
    world.deltas[1] = {}
    world.mode.set([world.concept(1)])
    torch.testing.assert_close(world.denoiser(None, 0, world.features(TEXTS)), expected)
    world.mode.set([world.concept(1, range(5, 6))])
    assert world.encoders["one"](torch.tensor([[5, 12]]))[0][0, :, -1].tolist() == [1, 0]


def test_each_text_encoder_marks_its_own_text():
    """In SDXL the second text encoder may read another prompt: its columns alone get what it names."""
    world = World()
    plain, named = torch.tensor([[0, 3, 4, 1]]), torch.tensor([[0, 10, 11, 1]])
    X = world.features(plain, named)
    base = world.denoiser(None, 0, X)
    world.mode.set([world.concept(0)])
    found = world.denoiser(None, 0, world.features(plain, named)) - base
    own = torch.cat([torch.zeros(1, 4, 3), X[..., 3:] * torch.tensor([0, 1, 1, 0])[None, :, None]], dim=-1)
    torch.testing.assert_close(found, torch.cat([own @ d.T for d in world.deltas[0].values()], dim=-1))


@pytest.mark.parametrize(
    "ids",
    [[0, 10, 1], [0, 11, 10, 1], [0, 5, 10], [11, 0, 1], [10, 10, 11]],
    ids=["cut", "swapped", "end", "start", "extra"],
)
def test_a_concept_in_part_is_refused(ids):
    world = World()
    world.mode.set([world.concept(0)])
    with pytest.raises(UsageError, match="<c0> is not whole in the prompt"):
        world.features(torch.tensor([ids]))


def test_features_that_were_marked_by_other_concepts_are_refused_and_unmarked_ones_are_plain():
    world = World()
    unmarked = world.features(TEXTS)
    plain = world.denoiser(None, 0, unmarked)
    world.mode.set([world.concept(0)])
    marked = world.features(TEXTS)
    assert torch.equal(world.denoiser(None, 0, unmarked), plain)
    world.mode.set([world.concept(0), world.concept(1)])
    with pytest.raises(UsageError, match="were encoded while other concepts were in the pipeline"):
        world.denoiser(None, 0, marked)


@pytest.mark.slow
@torch.no_grad()
def test_compiled_modules_use_the_concepts_that_they_have():
    world = World()
    expected = world.expected(TEXTS, (0, 1))
    world.mode.set([world.concept(0), world.concept(1)])
    denoiser, encoder = (
        torch.compile(m, backend="aot_eager", fullgraph=True) for m in (world.denoiser, world.encoders["one"])
    )
    features = torch.cat([encoder(TEXTS)[0], world.encoders["two"](TEXTS)[0]], dim=-1)
    torch.testing.assert_close(denoiser(None, 0, features), expected)
    torch.testing.assert_close(denoiser(None, 0, features.flip(0)), expected.flip(0))
    torch.compiler.reset()


def test_gradients_reach_the_features():
    world = World()
    world.mode.set([world.concept(0)])
    X = world.features(TEXTS).detach().requires_grad_()
    world.denoiser(None, 0, X).sum().backward()
    assert X.grad is not None
    assert X.grad.shape == X.shape


def test_no_features_are_kept_after_a_call_or_an_error_in_it(monkeypatch):
    world = World()
    world.mode.set([world.concept(0)])
    X = world.features(TEXTS)
    plain = torch.nn.functional.linear(X[..., :7], world.denoiser.to_k.weight, world.denoiser.to_k.bias)
    with torch.no_grad():
        world.denoiser(None, 0, X)
        torch.testing.assert_close(world.denoiser.to_k(X[..., :7]), plain)

    def failing(*_):
        raise RuntimeError

    hook = world.denoiser.to_v.register_forward_pre_hook(failing)
    with pytest.raises(RuntimeError):
        world.denoiser(None, 0, X)
    hook.remove()
    torch.testing.assert_close(world.denoiser.to_k(X[..., :7]), plain)


def test_a_block_that_the_backward_pass_computes_again_reads_the_same_features():
    """Gradient checkpointing, which scripts use with guidance by gradients."""
    gradients = []
    for checkpointed in (False, True):
        world = World()
        world.mode.set([world.concept(0)])
        X = world.features(TEXTS).detach().requires_grad_()
        if checkpointed:
            layer = world.denoiser.to_k
            block = torch.nn.Module()
            block.forward = lambda x, layer=layer: torch.utils.checkpoint.checkpoint(
                lambda given: layer(given).square(), x, use_reentrant=False
            )
            world.denoiser.forward = lambda _x, _t, encoder_hidden_states, b=block: b(encoder_hidden_states)
        else:
            to_k = world.denoiser.to_k
            world.denoiser.forward = lambda _x, _t, encoder_hidden_states, f=to_k: f(encoder_hidden_states).square()
        world.denoiser(None, 0, X).sum().backward()
        gradients.append(X.grad)
    torch.testing.assert_close(*gradients)
