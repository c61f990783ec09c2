"""Pictures, captions, prompts and names: what goes in, and how results are shown.

Owns formats that people touch; must not know models, stores or commands.
"""
