"""Labelled images: where they are found, how they are checked, and how they reach a model."""
