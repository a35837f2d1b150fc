# SPDX-License-Identifier: Apache-2.0
"""Where the versions of other products come from that the documents name.

The code has most of them: the features of kernels, the commits that comments name, recorded results,
pyproject.toml and the lists of packages.  ``ROWS`` has the rest.

A version is known if a more exact one is: Linux 6.18 if Linux 6.18.44 is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import tomllib

from probes.features import FEATURES
from tests.bench.results import FOLDER, read, tracked
from tests.ledger.claims import named

__all__ = ["KERNELS", "ROWS", "Row", "in_code", "source"]

_ROOT = Path(__file__).resolve().parents[2]
_SAME = {"CPython": "Python", "helm": "Helm", "CentOS": "RHEL", "CentOS Stream": "RHEL", "EPEL": "RHEL"}
"""The rebuilds of RHEL, and the packages for it, have its numbers."""
KERNELS = "Cases by kernel"
_LOCKED = {"jinja2": "Jinja2", "pyyaml": "PyYAML", "rich": "rich"}


class Row(NamedTuple):
    """versions: as documents name them.

    source: a file, which has these words; or, without words, what is published or seen.
    """

    versions: str
    source: str
    words: str = ""


_RHEL = "https://access.redhat.com/articles/3078: the releases of RHEL and their kernels"

ROWS = (
    # -- what the project uses and requires --
    Row("Python 3.6", "tests/live/test_snapshot_pythons.py", "versions/3.6.*/bin/python"),
    Row("Python 3.8", "tests/runtimes/test_cpythons.py", "version >= (3, 8)"),
    Row("Helm 3", "config/setup.sh", "helm 3 v3"),
    Row("Helm 4", "config/setup.sh", "helm 4 v3"),
    Row("Kubernetes 1.30", "config/helm/Chart.yaml", 'kubeVersion: ">=1.30.0'),
    Row("ansible-core 2.14", "config/ansible/roles/spawnstall/meta/main.yml", 'min_ansible_version: "2.14"'),
    Row("Grafana 11", "pyproject.toml", "grafana-foundation-sdk==1769699379!11."),
    Row("RHEL 10", "config/rpm/spawnstall.spec", "The RPM for RHEL 9 and 10 "),
    Row("RHEL 9.4", "probes/loader.py", "boot a later kernel, such as RHEL 9.4's"),
    # -- what commits of the kernel changed --
    Row("Linux 5.2", "c04c0d2b968a, bpf: increase complexity limit and maximum program size"),
    Row(
        "Linux 5.11",
        "https://lore.kernel.org/bpf/20201201215900.3569844-1-guro@fb.com for the locked memory;"
        " e9a53aeb5e0a (bpf/task_iter: use task_lookup_next_fd_rcu) for the fd table",
    ),
    Row("Linux 6.3", "6715df8d5d24, bpf: Allow reads from uninit stack"),
    # -- releases --
    Row("RHEL 7.5, RHEL 7.9, RHEL 8.0, RHEL 8.2, RHEL 8.4, RHEL 9.0, RHEL 9.2", _RHEL),
    Row("Linux 3.10.0-957, Linux 3.10.0-1062, Linux 4.18.0-147, Linux 4.18.0-553.66.1", _RHEL),
    Row("Linux 5.14.0-362.24.1, Linux 5.14.0-570.32.1", _RHEL),
    Row("Ubuntu 24.04", "https://packages.ubuntu.com/noble/python3-bpfcc: 0.29, and we require 0.26"),
    Row("Ubuntu 22.04, bcc 0.18", "https://packages.ubuntu.com/jammy/python3-bpfcc"),
    Row("LLVM 11, gcc 9.3", "https://packages.debian.org/bullseye: libbpfcc, gcc-9"),
    Row("bcc 0.31, bcc 0.35, LLVM 14, LLVM 21", "tried by hand, see the message of commit e6afd2a"),
    Row(
        "bpftrace 0.17, libbpf-tools 0.26, strace 6.1, perf 6.1, podman 4.3, glibc 2.36, gcc 11, Go 1.19,"
        " Java 17, Ruby 3.1",
        "https://packages.debian.org/bookworm",
    ),
    Row("Node 20", "https://github.com/nodesource/distributions: what the build machine has"),
    Row("Prometheus 2.42", "https://github.com/prometheus/prometheus/releases/tag/v2.42.0: keep_firing_for"),
    Row("Grafana 12", "https://grafana.com/docs/grafana/latest/whatsnew/whats-new-in-v12-0"),
    Row("jsonnet 0.18", "https://github.com/google/jsonnet/releases/tag/v0.18.0: std.parseYaml"),
    Row(
        "pydantic 1.10, jsonschema 3.2, prometheus_client 0.21, bcrypt 3.2.2",
        "https://packages.fedoraproject.org: EPEL 9; https://docs.redhat.com: RHEL 9's package manifest",
    ),
    Row("pydantic 2", "https://docs.pydantic.dev/latest/migration"),
)


def source(product: str, version: str) -> str:
    """Return where a version comes from; empty if nobody knows."""
    there = _SAME.get(product, product), version
    return in_code().get(there) or _in_rows().get(there, "")


@functools.cache
def in_code() -> dict[tuple[str, str], str]:
    """Return the file of each version in the code, by product and version."""
    return _by_version((*_of_features(), *_of_commits(), *_of_results(), *_of_python(), *_of_packages()))


@functools.cache
def _in_rows() -> dict[tuple[str, str], str]:
    return _by_version((*each, row.source) for row in ROWS for each in named(row.versions))


def _by_version(found: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    return {
        (_SAME.get(product, product), each): where
        for product, version, where in found
        for each in _series(version)
    }


def _series(version: str) -> Iterator[str]:
    """Return a version and the less exact ones: 3.10.0-957, 3.10.0, 3.10, 3."""
    while version:
        yield version
        version = re.sub(r"(^|[.-])\d+$", "", version)


def _of_features() -> Iterator[tuple[str, str, str]]:
    for feature in FEATURES:
        for product, version in named(feature.since):
            yield product, version, "probes/features.py"
        for version in re.findall(r"(?<!RHEL )\b\d+\.\d+\b", feature.since):
            yield "Linux", version, "probes/features.py"


def _of_commits() -> Iterator[tuple[str, str, str]]:
    """Those of Linux beside the commit that made the difference, as in 5.6 (commit cb4d03ab499d)."""
    for file in tracked("agent/*.py", "probes/*.py", "probes/*.c", "probes/*.h"):
        for version in re.findall(r"\b(\d+\.\d+) \((?:commit )?[0-9a-f]{12}\)", (_ROOT / file).read_text()):
            yield "Linux", version, file


def _of_results() -> Iterator[tuple[str, str, str]]:
    for file in tracked(FOLDER):
        result = read(file)
        lines = [f"Linux {result.kernel}", result.machine]
        for title, table in result.tables.items():
            lines += [row[0] for row in table.rows]
            lines += [f"Linux {column}" for column in table.header if title == KERNELS]
        for product, version in named("\n".join(lines)):
            yield product, version, file


def _of_python() -> Iterator[tuple[str, str, str]]:
    for line in tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["classifiers"]:
        for version in re.findall(r"^Programming Language :: Python :: ([\d.]+)$", line):
            yield "Python", version, "pyproject.toml"


def _of_packages() -> Iterator[tuple[str, str, str]]:
    """The oldest ones, which are RHEL 9's."""
    file = "config/requirements-oldest.txt"
    for name, version in re.findall(r"(?m)^(\S+)==([\d.]+)", (_ROOT / file).read_text()):
        if name in _LOCKED:
            yield _LOCKED[name], version, file
