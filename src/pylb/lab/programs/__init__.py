"""Small programs that run in pods in place of container images."""
