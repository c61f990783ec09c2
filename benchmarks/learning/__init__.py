"""What training a concept gives: questions, their controls, and tables; `python -m benchmarks.learning`.

Owns the questions; cnsctl itself trains and measures.
"""
