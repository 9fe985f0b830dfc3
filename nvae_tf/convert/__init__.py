"""Conversion of official PyTorch checkpoints to Keras models."""
