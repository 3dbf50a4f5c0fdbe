"""How a model is run: seeded inputs that fit it, and the numbers a trusted runtime computes from them."""
