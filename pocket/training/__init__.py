"""How tokenizer, CLIP, VAE and denoiser come to be: one module per stage, each of them resumable.

Owns the recipe; must not know the program that uses the weights.
"""
