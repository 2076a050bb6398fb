"""Variational autoencoders, one a file."""
