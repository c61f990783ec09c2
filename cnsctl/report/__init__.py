"""What people look at: contact sheets.

Owns layout; must not know models or stores.
"""
