"""What one node must do: tables compiled from the policy."""
