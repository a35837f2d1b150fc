"""The JSON objects of a report, and what becomes of them."""
