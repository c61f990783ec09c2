"""Base models, frozen, behind one protocol; the only package that imports diffusers or transformers.

Owns loading, fingerprints and the calls into the libraries; must not know concepts or the store.
To add a family, write a folder like `sd1/` and one line in `registry.py`.
"""
