"""Frozen text-to-image models behind one protocol; the only place that imports diffusers or transformers.

Owns loading, fingerprints and the calls into the libraries; must not know concepts or the store.
"""
