"""The C core as cffi makes it: csrc/pylb.h has the declarations, pylb.wire the types."""

from typing import Any

lib: Any
ffi: Any
