"""The C side of the tests, built once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.native.probe import SANITIZERS, Ask, Program, build_module, need_sanitizers


@pytest.fixture(scope="session", params=["module", "sanitized"])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "module":
        yield build_module(folder)
        return
    need_sanitizers(folder, SANITIZERS)
    program = Program(folder)
    try:
        yield program
    finally:
        program.close()
