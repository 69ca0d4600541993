"""Where things run: this machine, or a device over ssh; what it has, how fast a package is there, and what it tells."""
