"""Honest measurement: metrics, each a file, and what picks them by capability."""
