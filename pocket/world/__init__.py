"""Captioned 128 × 128 scenes drawn by a program: `scene(Draws(seed))` gives a picture and what it shows.

Owns the names that training, judge and examples use; must not know models.
"""

from pocket.world.draws import Draws
from pocket.world.scenes import SIZE, Scene, scene

__all__ = ["SIZE", "Draws", "Scene", "scene"]
