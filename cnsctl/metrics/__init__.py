"""Scores of concepts: how well they were trained, and what was lost since.

Owns formulas on numpy arrays; must not know models, image files or the store.
"""
