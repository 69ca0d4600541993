"""A pipeline's steps on a Ray cluster: tasks, the machines, the store between them, the wheel they run."""
