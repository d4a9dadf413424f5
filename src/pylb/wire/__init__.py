"""What is on the wire: headers, checksums and encapsulations.

Functions take and give integers in host order; the bytes they read and write are
big-endian.
"""
