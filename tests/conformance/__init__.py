"""pylb against the kernel, at every level."""

PYTHON = "/usr/bin/python3"
"""The system's Python, for programs in pods and on hosts, which need no library."""
