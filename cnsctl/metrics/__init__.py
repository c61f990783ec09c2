"""Numbers that say what was learned, kept and forgotten.

Owns formulas on numpy arrays; must not know models, pictures' files or the store.
"""
