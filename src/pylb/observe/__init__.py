"""What a dataplane tells of itself, in words: conntrack's formats, JSON, statistics."""
