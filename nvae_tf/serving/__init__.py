"""Talks to a server that serves an exported model: a client, and checks of the TensorFlow Serving contract."""
