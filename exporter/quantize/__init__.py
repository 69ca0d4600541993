"""int8: calibrated, divided between int8 and float by measured time, and climbed until its accuracy holds."""
