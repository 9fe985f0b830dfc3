"""Evaluation of a trained model: likelihood, samples, reconstructions."""
