"""File formats: bytes to values and back, distrusting what is read.

Owns one format per file; must not know the store around them.
"""
