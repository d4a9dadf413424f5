"""What obeys plans: the interfaces in `base`, and the dataplanes themselves."""
