"""The family `sd1`: Stable Diffusion 1.x and 2.x, and pocket."""
