"""Denoisers that wrap a denoiser, so that no solver knows of guidance."""
