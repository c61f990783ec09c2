"""The family `pixart`: diffusion transformers with cross-attention and a T5 text encoder."""
