"""What the user asked for: Kubernetes objects, read, completed and checked."""
