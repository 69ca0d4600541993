"""What exports to a format and runs the result: one folder a backend, and what they share."""
