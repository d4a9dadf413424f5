"""The command line: one module for each of its words."""
