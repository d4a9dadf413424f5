"""The readable dataplane.  Start at `datapath`; file names mirror the C core's."""
