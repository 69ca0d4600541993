"""eager: the module itself, in torch."""
