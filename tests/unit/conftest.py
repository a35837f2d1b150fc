"""What several unit tests share."""

from __future__ import annotations

import pytest

from tests.unit.certificates import Authority, Pair


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of the tests' own."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    """A certificate of the server's, signed by it."""
    return authority.sign("server")
