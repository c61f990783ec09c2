"""Rules of what the store imports and opens."""

import subprocess

from store_samples import add, finish, new_store, start

HEAVY = ("numpy", "safetensors", "torch", "diffusers", "transformers", "typer", "rich", "PIL", "platformdirs")

LIST = """
    import sys
    from pathlib import Path
    from cnsctl.store import Store
    store = Store.open(Path(sys.argv[1]))
    assert [c["name"] for c in store.concepts()] == ["dog", "cat"]
    assert store.free().neurons > 0
    assert not store.is_damaged(store.concept("dog"))
    assert store.concept("cat")["neurons"] > 0
    print(*sorted({name.split(".")[0] for name in sys.modules}))
"""

READ = """
    import os, sys
    from pathlib import Path
    from cnsctl.store import Store
    import cnsctl.store.index
    WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
              "os.chown", "os.utime", "fcntl.flock", "fcntl.lockf", "shutil.rmtree", "tempfile.mkstemp"}
    def watch(event, args):
        if event in WRITES or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            if event != "open" or not str(args[0]).endswith(".pyc"):
                print(event, args, flush=True)
    sys.addaudithook(watch)
    store = Store.open(Path(sys.argv[1]))
    for record in store.concepts():
        store.delta(record)
        store.blob(record["probe"])
        store.index.overlaps(record, store.concepts())
        store.index.owned(store.snapshot(), besides=record["name"])
    store.index.kept(store.snapshot().state), store.index.rebuild(store.concepts())
    store.free(), store.runs(), store.generation(), store.cached("x")
    print("done")
    if len(sys.argv) > 2:
        with store.transaction("write") as tx:
            tx.remove("cat")
"""


def some_store(tmp_path):
    store = new_store(tmp_path / "s")
    add(store, "dog", 0)
    add(store, "cat", 1)
    return store


def test_opening_and_listing_load_nothing_heavy(tmp_path):
    store = some_store(tmp_path)
    loaded = finish(start(LIST, store.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)).split()
    assert "tinydb" in loaded
    assert not set(loaded) & set(HEAVY)


def test_reading_opens_nothing_for_writing_and_takes_no_lock(tmp_path):
    store = some_store(tmp_path)
    before = sorted(p.relative_to(store.path) for p in store.path.rglob("*"))
    out = finish(start(READ, store.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    assert out == "done\n"
    assert sorted(p.relative_to(store.path) for p in store.path.rglob("*")) == before


def test_the_audit_above_detects_a_transaction(tmp_path):
    """Otherwise its silence would prove nothing."""
    store = some_store(tmp_path)
    out = finish(start(READ, store.path, "write", stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    assert "open" in out.split("done")[1]
    assert "fcntl.flock" in out
