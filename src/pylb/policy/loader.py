"""YAML as Kubernetes reads it.

PyYAML follows YAML 1.1: it makes dates of timestamps and base-60 numbers of
``1:20``, and of two equal keys it silently keeps the last.  Kubernetes' manifests
mean text by the first two, and two equal keys are somebody's mistake.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = "tag:yaml.org,2002:int"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+|0o?[0-7]+)$")


class _Loader(_Base):  # type: ignore[misc]
    """A safe loader without YAML 1.1's dates and base-60 numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises `yaml.constructor.ConstructorError` for a key that is there twice."""
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if isinstance(key, str) and key != "<<":
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is there twice", key_node.start_mark
                    )
                seen.add(key)
        return dict(super().construct_mapping(node, deep=deep))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _TIMESTAMP)]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, _PLAIN_INT, list("-+0123456789"))


def load_documents(text: str) -> list[Any]:
    """Every document of a YAML text; raises `yaml.YAMLError`."""
    return list(yaml.load_all(text, Loader=_Loader))
