"""Out, with proof: artifacts, backends, checks, reports and the command line."""
