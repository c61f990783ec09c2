"""Teach a text-to-image model new things one after another, without forgetting the earlier ones."""

__version__ = "0.1.0"
