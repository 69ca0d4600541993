"""Smaller: ranges, quantisation, pruning. Nothing here yet; docs/decisions/0001 has the map."""
