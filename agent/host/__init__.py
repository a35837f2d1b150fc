# SPDX-License-Identifier: Apache-2.0
"""Read what the host knows of its processes."""
