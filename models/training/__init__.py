"""The training loop: a recipe, schedules, augmentation and one step, each a small pure function."""
