"""`zoo prune`: what is asked for, decided by measured time, removed, recovered, and shown beside its rival."""
