"""Pruning a model to a share of its arithmetic or of its time, and what that costs in answers."""
