"""Whether this process can load a base model at all: what the libraries do not say in words.

Owns these checks; must not know base models or terminals.
"""

from __future__ import annotations

import sys

from cnsctl.errors import OutOfMemoryError, UsageError

LEAST_BYTES = 10**9
"""Address space that the libraries need without any weights. With less, they end the process or fail in odd ways."""


def refuse_unfit() -> None:
    """Check this process before a library is imported.

    Raises:
        OutOfMemoryError: its address space is limited to less than the libraries need.
        UsageError: Python drops docstrings, which transformers reads.
    """
    import resource  # absent on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_BYTES:
        raise OutOfMemoryError(
            f"not enough memory: this process may use {limit / 1e9:.1f} GB of address space",
            note=f"PyTorch alone needs about {LEAST_BYTES / 1e9:.0f} GB",
            hint="raise the limit: ulimit -v unlimited",
        )
    if sys.flags.optimize > 1:
        raise UsageError(
            "Python runs without docstrings, which transformers needs",
            note="it was started with -OO, or with PYTHONOPTIMIZE=2",
            hint="unset PYTHONOPTIMIZE, and start Python without -OO",
        )
