"""Reports for people: contact sheets.

Owns layout; must not know models or stores.
"""
