"""Lint, formatting, types and compiler warnings: a failure shows what the tool said."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pylb import _build

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(str(path) for path in (ROOT / "csrc").glob("*.c"))
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
STANDARD = ["-std=c11", "-O2", "-Icsrc"]
WARNINGS = [*STANDARD, "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


def run(*command: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}", pytrace=False)


def test_ruff_check() -> None:
    run(sys.executable, "-m", "ruff", "check", ".")


def test_ruff_format() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_mypy_strict() -> None:
    run(sys.executable, "-m", "mypy")


def test_there_is_a_c_compiler() -> None:
    assert COMPILERS, "expected gcc or clang"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_c_warnings(compiler: str) -> None:
    run(compiler, *WARNINGS, "-fsyntax-only", *SOURCES)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("header", sorted(path.name for path in (ROOT / "csrc").glob("*.h")))
def test_c_header_stands_alone(compiler: str, header: str, tmp_path: Path) -> None:
    alone = tmp_path / "alone.c"
    alone.write_text(f'#include "{header}"\n', encoding="utf-8")
    run(compiler, *WARNINGS, "-fsyntax-only", str(alone))


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_extension_module_compiles_without_warnings(compiler: str, tmp_path: Path) -> None:
    wrapper = tmp_path / "_core.c"
    _build.builder().emit_c_code(str(wrapper))
    python = ["-isystem", sysconfig.get_path("include")]
    # cffi's own code leaves parameters unused and converts as it likes.
    run(compiler, *STANDARD, "-Wall", "-Werror", *python, "-fsyntax-only", str(wrapper))


@pytest.mark.parametrize("compiler", COMPILERS[:1])
def test_c_code_has_no_undefined_behaviour_on_odd_input(compiler: str, tmp_path: Path) -> None:
    """Unaligned and cut-off buffers under the sanitizers: each ends where its bytes end."""
    main = tmp_path / "main.c"
    main.write_text(
        """
        #include <stdlib.h>
        #include <string.h>
        #include "pylb.h"
        /* Leak detection needs ptrace, which a container may forbid. */
        const char *__asan_default_options(void) { return "detect_leaks=0"; }
        int main(void)
        {
            for (size_t offset = 0; offset < 9; offset++)
                for (size_t len = 0; len < 70; len++) {
                    uint8_t *block = malloc(offset + len + 1), key[17];
                    memset(block, 0xa5, offset + len + 1);
                    memset(key, 0x5a, sizeof(key));
                    uint8_t *exact = realloc(block, offset + len ? offset + len : 1);
                    pylb_ones_sum(exact + offset, len, 0xffffffff);
                    pylb_siphash(key + 1, exact + offset, len);
                    free(exact);
                }
            pylb_toeplitz(0xffffffff, 0xffffffff, 0xffff, 0xffff);
            pylb_check_update32(0, 0xffffffff, 0xffffffff);
            return 0;
        }
        """,
        encoding="utf-8",
    )
    program = str(tmp_path / "main")
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    run(compiler, *STANDARD, "-g", *sanitizers, str(main), *SOURCES, "-o", program)
    run(program)


class TestDeclarations:
    """cffi's definitions come from the header, whole."""

    HEADER = (ROOT / "csrc" / "pylb.h").read_text(encoding="utf-8")

    def test_every_public_function_is_declared_to_cffi(self) -> None:
        named = r"\b(pylb_\w+)\("
        assert re.findall(named, _build.declarations(self.HEADER)) == re.findall(named, self.HEADER)

    @pytest.mark.parametrize("marker", ["/* cffi: begin */", "/* cffi: end */"])
    def test_a_header_without_markers_is_refused(self, marker: str) -> None:
        with pytest.raises(ValueError, match="expected the markers"):
            _build.declarations(self.HEADER.replace(marker, ""))

    def test_every_c_file_documents_its_functions(self) -> None:
        """Kernel-doc stands before each definition, names its function and its parameters."""
        definition = re.compile(r"^(?:static |inline )*[\w ]+[ *](\w+)\(([^)]*)\)\n\{", re.M)
        for path in sorted((ROOT / "csrc").glob("*.[ch]")):
            text = path.read_text(encoding="utf-8")
            for found in definition.finditer(text):
                name, parameters = found.groups()
                comment = text[: found.start()].rpartition("/**")[2]
                assert f" * {name}() - " in comment, f"csrc/{path.name}: {name} has no kernel-doc"
                for parameter in re.findall(r"(\w+)(?:,|$)", parameters):
                    assert parameter == "void" or f"@{parameter}:" in comment, (
                        f"csrc/{path.name}: {name} does not document {parameter}"
                    )
