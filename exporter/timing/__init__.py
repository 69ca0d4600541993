"""Time, measured in one place: the engine, its worker, the statistics, operator profiles, what the machine did."""
