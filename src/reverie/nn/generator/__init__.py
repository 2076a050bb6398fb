"""Generators: latents to rows.

``Network(config, space, latent=…)``, ``forward(z, condition) -> [B, *space.shape]``: ``latent`` is the length of z.
A network takes the label where ``space.classes`` is above 0; an absent label counts as unknown (-1).
"""
