"""Recipes as TOML files; `zoo list recipes` shows them."""
