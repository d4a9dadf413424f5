"""The dataplane in C: what `pylb.dataplane.python` says, at the speed that a TUN allows."""
