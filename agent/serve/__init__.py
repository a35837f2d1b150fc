"""The agent: traces the whole host and serves metrics and a page."""
