#!/usr/bin/python3 -I
# SPDX-License-Identifier: Apache-2.0
"""/usr/bin/trace-popen of the RPM and the deb.

A file of its own and not a link into the private folder: SELinux keeps a service in systemd's own domain,
which may not use bpf, unless its program is in a folder for programs.
"""

import sys

sys.path.insert(0, "/usr/lib/spawnstall")

from spawnstall import main

if __name__ == "__main__":
    main()
