"""Encoders: rows to vectors.

``Network(config, space, outputs=…)``, ``forward(x, condition) -> [B, outputs]``: ``outputs`` is the number of features.
A network takes the label where ``space.classes`` is above 0; an absent label counts as unknown (-1).
"""
