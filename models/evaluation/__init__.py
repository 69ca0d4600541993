"""How good a model is: metrics, and pictures of them."""
