"""The C side of the tests, built once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.native.probe import Ask, Program, build_module, has_sanitizers


@pytest.fixture(scope="session", params=["module", "sanitized"])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "module":
        yield build_module(folder)
        return
    if not has_sanitizers(folder):
        pytest.skip("gcc has no sanitizers here")
    program = Program(folder)
    try:
        yield program
    finally:
        program.close()
