"""What a weights folder can draw, measured: `judge.report.judged` and its parts.

Owns prompts, measures and the table; must not know how weights are trained.
"""
