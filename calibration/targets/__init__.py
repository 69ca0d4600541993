"""One file a target: where Q/DQ goes and in which number format, so that its runtime makes integer kernels of it."""
