r"""Posterior collapse: latent dimensions that no image moves.

A dimension is active where its code varies over the data, :math:`\mathrm{Var}_x E[z_d | x] > 0.01`. A healthy VAE of 32
dimensions on digits keeps about half of them; below ``LEAST`` the decoder has learnt to do without.

References:
    | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), Section 5.2
    | https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

from reverie.training.doctor.finding import Finding
from reverie.training.doctor.history import History

LEAST = 0.1
SETTLED = 0.3  # of the budget: dimensions wake up one after the other


def examine(history: History) -> list[Finding]:
    """A fault where the last two checkups (or the only one) are below the threshold."""
    if "Denoises" in history.recipe.get("capabilities", ()):
        return []  # older journals have the sign of diffusion models, too, whose code is noise
    seen = history.signs.get("active latents", ())[-2:]
    if not seen or history.young or history.fraction < SETTLED or max(seen) >= LEAST:
        return []
    sentence = f"{seen[-1]:.0%} of the latent dimensions vary with the image ({LEAST:.0%} at least)"
    return [Finding("posterior collapse", "fault", sentence, 0.9, history.change("model.beta", 0.1))]
