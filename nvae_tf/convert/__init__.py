"""From the official PyTorch checkpoint to a Keras NVAE."""
