"""Decoders: vectors to the parameters of rows.

``Network(config, space, latent=…, outputs=…)``, ``forward(z, condition) -> [B, outputs, *space.shape]``: ``latent`` is
the length of z, ``outputs`` the number of parameters of each value. The result is float32 under autocast too.
"""
