"""Label selectors as Kubernetes has them: labels that must be equal, and expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pylb.policy.fields import Reader

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


class Expression(NamedTuple):
    """One of ``matchExpressions``."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True when ``labels`` are as it says."""
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        # A label that is not there is not in any set: NotIn holds.
        return (labels.get(self.key) in self.values) == (self.operator == "In")


class Selector(NamedTuple):
    """What ``matchLabels`` and ``matchExpressions`` say together; empty, it matches all."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[Expression, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True when ``labels`` have all that is asked."""
        same = all(labels.get(key) == value for key, value in self.labels)
        return same and all(each.matches(labels) for each in self.expressions)


def read_selector(spec: Reader) -> Selector:
    """The selector that a mapping with ``matchLabels`` and ``matchExpressions`` is."""
    labels = spec.labels("matchLabels")
    expressions = []
    for entry in spec.each("matchExpressions"):
        key = entry.text("key", required=True)
        operator = entry.choice("operator", _OPERATORS, "In")
        values = entry.texts("values")
        if operator in ("In", "NotIn") and not values:
            entry.wrong("values", f"is required with operator {operator}")
        if operator in ("Exists", "DoesNotExist") and values:
            entry.wrong("values", f"may not be set with operator {operator}")
        entry.done()
        expressions.append(Expression(key, operator, values))
    spec.done()
    return Selector(tuple(sorted(labels.items())), tuple(expressions))
