"""The command line: one file a command; parse -> call -> report. Nothing here imports torch to print help."""
