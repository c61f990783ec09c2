"""Images, captions, prompts and names: the inputs of training and generation.

Owns how people write them; must not know models, stores or commands.
"""
