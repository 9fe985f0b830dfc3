"""Lossless compression of images with a trained NVAE, by bits-back coding through the whole hierarchy of latents."""
