"""The Python API: the workflows of the command line, with the same names and defaults.

    import cnsctl

    store = cnsctl.open_store("sd")
    with store.load() as session:
        session.train("dog", "photos/", class_word="dog").result()
        session.generate("<dog> on a beach", seed=7).save("out.png")

Owns the public names; must not know how anything is done: each call goes into `cnsctl.app`.
"""

from cnsctl.api.pipeline import apply_concept
from cnsctl.api.run import CnsctlWarning, Run
from cnsctl.api.session import Session
from cnsctl.api.store import Store, create_store, doctor, estimate_memory, open_store, restore_store

__all__ = [
    "CnsctlWarning",
    "Run",
    "Session",
    "Store",
    "apply_concept",
    "create_store",
    "doctor",
    "estimate_memory",
    "open_store",
    "restore_store",
]
