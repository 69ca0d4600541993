"""`zoo run`: one file from data to a package. Steps are zoo's own commands; this joins them, and does nothing twice."""
