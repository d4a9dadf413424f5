"""`-o jsonpath=` and `-o custom-columns=`: what kubectl 1.32 prints for the same."""

from __future__ import annotations

from typing import Any

import pytest

from pylb.cli.jsonpath import JsonPathError, Template, path

SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "web"}},
    "spec": {
        "externalIPs": ["1.1.1.1", "2.2.2.2"],
        "ports": [
            {"name": "a", "port": 80, "targetPort": 8080},
            {"name": "b", "port": 81},
        ],
        "selector": {"app": "web"},
        "publishNotReadyAddresses": True,
        "clusterIP": None,
    },
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        (".spec.type", ".spec.type"),
        ("{.kind}", "Service"),
        ("{ .kind }", "Service"),
        ("{$.kind} {@.kind}", "Service Service"),
        ("{.nope}{.kind.x}{.spec.ports.name}{.nope[0]}", ""),
        ("{.spec.publishNotReadyAddresses}", "true"),
        ("{.spec.ports[0]}", '{"name":"a","port":80,"targetPort":8080}'),
        ("{.spec.ports[*].port}", "80 81"),
        ("{.spec.ports[-1].port}", "81"),
        ("{.spec.ports[0,1].name}", "a b"),
        ("{.spec.ports[0:1].name}", "a"),
        ("{.spec.ports[1:].name}", "b"),
        ("{.spec.ports[::2].name}", "a"),
        ("{.spec['type','externalIPs']}", '["1.1.1.1","2.2.2.2"]'),
        (r"{.metadata.labels.app\.kubernetes\.io/name}", "web"),
        ("{.metadata.labels['app.kubernetes.io/name']}", "web"),
        ("{.metadata['labels']}", '{"app.kubernetes.io/name":"web"}'),
        ('{.spec.ports[?(@.name=="b")].port}', "81"),
        ("{.spec.ports[?(@['name']=='b')].port}", "81"),
        ('{.spec.ports[?(@.name != "b")].port}', "80"),
        ("{.spec.ports[?(@.port==80)].name}", "a"),
        ("{.spec.ports[?(@.port > 80)].name}", "b"),
        ("{.spec.ports[?(@.port<=81)].port}", "80 81"),
        ("{.spec.ports[?(@.port>=80.5)].port}", "81"),
        ("{.spec.ports[?(@.targetPort)].name}", "a"),
        ('{.spec.ports[?(@.nope=="b")].port}', ""),
        ("{..port}", "80 81"),
        ("{..ports[0].name}", "a"),
        ("{.*.name}", "web"),
        ("{.spec.selector.*}", "web"),
        ('{range .spec.ports[*]}{.name}={.port}{"\\n"}{end}', "a=80\nb=81\n"),
        ("{range .spec.ports[*]}{.name}", "ab"),
        ("{range .spec.externalIPs[*]}{@},{end}", "1.1.1.1,2.2.2.2,"),
        ("{range .spec.ports[*]}{range .name}[{@}]{end};{end}", "[a];[b];"),
        ("{range .spec.nope[*]}{.name}{end}", ""),
        ('a{"b"}{\'"\'}c{3}{true}', 'ab"c3true'),
        ('{.kind}{"\\t"}{.kind}', "Service\tService"),
        ("{.spec.clusterIP}", ""),
        # What kubectl cannot: the root inside a range, names in double quotes.
        ("{range .spec.ports[*]}{$.metadata.name}.{.name} {end}", "web.a web.b "),
        ('{.spec.ports[*]["name","port"]}', "a 80 b 81"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert Template(template).render(SERVICE) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{.kind", "a { is not closed"),
        ("{.spec.ports[a]}", "expected an index, or a name in quotes"),
        ("{.spec.ports[0}", "a [ is not closed"),
        ("{.spec.ports[0,'a']}", "either indices or names"),
        ("{.spec.ports[::0]}", "step must be above 0"),
        ("{[.metadata.name, .kind]}", "expected an index"),
        ("{*}", "begins no path"),
        ("{kind}", "begins no path"),
        ("{.spec..}x{end}", "{end} without {range}"),
        ("{.kind .x}", "unexpected '.'"),
        ("{.spec.}", "name is missing"),
        ('{.spec.ports[?(@.name=="a" || @.name=="b")].port}', "expected [?(PATH)]"),
        ("{.spec.ports[?(@.name=)]}", "expected [?(PATH)]"),
    ],
)
def test_what_is_no_template(template: str, message: str) -> None:
    with pytest.raises(JsonPathError) as found:
        Template(template)
    assert message in str(found.value)
    assert repr(template) in str(found.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{.spec.ports[5]}", "[5]: the list has 2 elements"),
        ("{.kind[0]}", "[0]: 'Service' is not a list"),
        ("{.kind[0:1]}", "'Service' is not a list"),
        ("{.kind[?(@.x)]}", "[?()]: 'Service' is not a list"),
        ('{.spec.ports[?(@.port=="80")].name}', '[?()]: cannot compare 80 with "80"'),
        ("{.spec.ports[?(@.*==80)].name}", "[?()]: can only compare one value with one other"),
    ],
)
def test_values_that_a_template_cannot_be_used_on(template: str, message: str) -> None:
    with pytest.raises(JsonPathError) as found:
        Template(template).render(SERVICE)
    assert str(found.value) == message


@pytest.mark.parametrize("text", [".metadata.name", "metadata.name", "{.metadata.name}"])
def test_paths_of_columns(text: str) -> None:
    assert path(text).find(SERVICE, SERVICE) == ["web"]


@pytest.mark.parametrize("text", ["a b", "{.a", ".a}", ".a[b]"])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(JsonPathError):
        path(text)
