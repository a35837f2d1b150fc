"""The JSON objects of a report: making, reading and aggregating them."""
