"""Scores of concepts: how well they were trained, and what was lost since.

Owns formulas on numpy arrays; must not know models, image files or the store.
To add a metric, write `metrics/<name>.py`, declare its field in `results.Evaluated`, which is its JSON key and its row in
the docs, fill the field in `app/evaluate.py`, and add a column to `cli.tables.evaluated`.
"""
