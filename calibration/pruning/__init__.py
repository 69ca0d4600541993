"""Fewer channels and fewer weights: which ones go, how many, and what that brings on the device."""
