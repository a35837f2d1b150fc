"""What people read, made from the JSON objects of a report."""
