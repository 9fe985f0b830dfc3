"""A client of a server that serves an exported model, and checks of the TensorFlow Serving contract."""
