"""The bytes of tensors that exist during a call, on torch's meta device too, which computes shapes but allocates nothing.

Owns this count; must not know what is called.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def peak(run: Callable[[], object], *modules: torch.nn.Module) -> int:
    """The most bytes of tensors that exist at one time during a call, without the modules' weights."""
    counted = _Counted(modules)
    with _attention_as_on_devices(), counted:
        run()
    return counted.peak


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of each memory block that an operation makes, until nothing refers to it."""

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        weights = [x.untyped_storage() for m in modules for x in (*m.parameters(), *m.buffers())]
        self._known: weakref.WeakSet[Any] = weakref.WeakSet(weights)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func) == "aten._local_scalar_dense.default" and args[0].is_meta:
            return False  # a library looks for a shortcut, such as a mask that masks nothing
        answer = func(*args, **(kwargs or {}))
        for tensor in answer if isinstance(answer, (tuple, list)) else (answer,):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return answer

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._end, size)

    def _end(self, size: int) -> None:
        self.now -= size


@contextmanager
def _attention_as_on_devices() -> Iterator[None]:
    """Attention without a matrix of all positions, as devices compute it; on the meta device torch would make one.

    The function is replaced, because checkpointed blocks call it from inside the backward pass, where torch's own modes
    for replacing functions are off.
    """

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_args: Any, **_more: Any) -> Any:
        return _Attention.apply(query, key, value)  # type: ignore[no-untyped-call]

    stock = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = stock


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, _grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v, _ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
