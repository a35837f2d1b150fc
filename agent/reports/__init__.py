# SPDX-License-Identifier: Apache-2.0
"""The JSON objects of a report: making, reading and aggregating them."""
