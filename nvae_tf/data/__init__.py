"""Data sets as uint8 arrays, and the batches drawn from them."""
