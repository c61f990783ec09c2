"""The order of steps: the only place where store and engine meet.

Nothing here imports torch, diffusers or numpy before a model is needed. Must not know terminals or file formats.
"""
