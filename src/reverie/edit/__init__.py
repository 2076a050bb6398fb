"""Tools on trained models, by what they can do: interpolation, arithmetic, walks."""
