"""Teach a text-to-image diffusion model new concepts one after another, without forgetting the earlier ones.

The public names are loaded when they are used: importing cnsctl imports neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnsctl import errors, events, results, settings
    from cnsctl.api import (
        CnsctlWarning,
        Run,
        Session,
        Store,
        apply_concept,
        create_store,
        doctor,
        estimate_memory,
        open_store,
        restore_store,
    )
    from cnsctl.app.applied import AppliedConcept
    from cnsctl.concept import Mode
    from cnsctl.errors import CnsctlError
    from cnsctl.settings import GenerateSettings, TrainSettings

__version__ = "0.1.0"

__all__ = [
    "AppliedConcept",
    "CnsctlError",
    "CnsctlWarning",
    "GenerateSettings",
    "Mode",
    "Run",
    "Session",
    "Store",
    "TrainSettings",
    "apply_concept",
    "create_store",
    "doctor",
    "errors",
    "estimate_memory",
    "events",
    "open_store",
    "restore_store",
    "results",
    "settings",
]

_HOMES = {
    "AppliedConcept": "app.applied",
    "CnsctlError": "errors",
    "GenerateSettings": "settings",
    "Mode": "concept",
    "TrainSettings": "settings",
}
"""Public name → its module; by default `api`."""

_MODULES = ("errors", "events", "results", "settings")
"""Public modules."""


if not TYPE_CHECKING:  # a type checker would accept every name

    def __getattr__(name: str) -> Any:
        """Load a public name at its first use (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module 'cnsctl' has no attribute {name!r}")
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"cnsctl.{name}")
        return getattr(import_module(f"cnsctl.{_HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
