"""Where two runs part: how far two tensors are from each other, and whether a rewrite kept the numbers."""
