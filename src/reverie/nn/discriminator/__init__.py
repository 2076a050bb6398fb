"""Discriminators: rows to logits.

``Network(config, space)``, ``forward(x, condition) -> [B]``: higher is more like the data. The logits are float32
under autocast too. ``features(x) -> [B, F]`` is what the last layer sees, and ``feature_count`` is F. A network takes
the label where ``space.classes`` is above 0; an absent label is unknown (-1).
"""
