"""What learning is worth: questions, their controls, and tables; `python -m benchmarks.learning`.

Owns what is asked; everything that learns or measures is cnsctl's own.
"""
