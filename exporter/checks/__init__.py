"""Gates: each measures in one place and judges in a pure function that returns the reason with the verdict."""
