"""What the host says of its processes."""
