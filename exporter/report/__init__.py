"""Reports for people (tables and progress on stderr) and for programs (JSON on stdout)."""
