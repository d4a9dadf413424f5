"""A node whose dataplane is the kernel: rules loaded, links made, flows and events read."""
