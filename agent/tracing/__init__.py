"""Kernel records become the model's spawns and stalls."""
