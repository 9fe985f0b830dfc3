"""Data sets as uint8 arrays, and the batches made from them."""
