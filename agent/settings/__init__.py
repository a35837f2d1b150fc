# SPDX-License-Identifier: Apache-2.0
"""Read and validate configuration files."""
