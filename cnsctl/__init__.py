"""Teach a text-to-image diffusion model new concepts one after another, without forgetting the earlier ones.

The public names are loaded when they are used: importing cnsctl imports neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnsctl.api import Run, Session, Store, apply_concept, create_store, open_store
    from cnsctl.concept import Mode
    from cnsctl.errors import CnsctlError
    from cnsctl.settings import GenerateSettings, TrainSettings

__version__ = "0.1.0"

_HOME = {
    "Run": "api",
    "Session": "api",
    "Store": "api",
    "apply_concept": "api",
    "create_store": "api",
    "open_store": "api",
    "Mode": "concept",
    "CnsctlError": "errors",
    "GenerateSettings": "settings",
    "TrainSettings": "settings",
}

__all__ = [
    "CnsctlError",
    "GenerateSettings",
    "Mode",
    "Run",
    "Session",
    "Store",
    "TrainSettings",
    "apply_concept",
    "create_store",
    "open_store",
]


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'cnsctl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"cnsctl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
