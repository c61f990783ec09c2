"""The family `sdxl`: Stable Diffusion XL and its descendants."""
