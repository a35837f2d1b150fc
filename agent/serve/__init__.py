# SPDX-License-Identifier: Apache-2.0
"""The agent: traces the whole host and serves metrics and a page."""
