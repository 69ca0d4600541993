"""Child processes that open what we did not make: little time, little memory, no files, no network, one answer.

room.py starts one and waits for its answer; child.py is what runs in it, and walls.py closes the walls before anything
foreign is read. Nothing here knows what a package or a model is.
"""
