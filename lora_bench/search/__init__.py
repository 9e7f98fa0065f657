"""Sweeps: the points of a grid, and the controller that carries them out."""
