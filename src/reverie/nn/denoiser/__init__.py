"""Networks that denoise: ``Network(config, space)``, with no sizes of the role's own.

Each is called as ``forward(x, t, condition=None, residuals=())`` and returns a tensor of x's shape and dtype:

- x: rows ``[B, *space.shape]``, already scaled;
- t: times ``[B]`` in [0, 1], 0 = data;
- condition: its ``label`` is int64 ``[B]``, -1 (and None) for unknown, where ``space.classes`` > 0; its ``image``
  ``[B, space.maps, H, W]`` and ``sequence`` ``[B, L, space.sequence]``, None for unknown, where the space has them;
- residuals: tensors that are added to the network's skip connections, from first to last (control, ``nn.control``).

The last layer starts at zero, so an untrained network returns zeros.
"""
