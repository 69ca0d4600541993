"""Smaller: ranges, quantisation, pruning; docs/decisions/0001 has the map."""
