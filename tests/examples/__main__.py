# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.examples``: writes the output of today's trace-popen into the documents that show it."""

from tests.examples.examples import EXAMPLES, current, replaced

for example in EXAMPLES:
    example.document.write_text(replaced(example, current(example)))
