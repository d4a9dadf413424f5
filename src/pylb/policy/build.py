"""Putting a policy together from understood objects: assign, resolve, check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pylb.policy import takers, validate
from pylb.policy.assign import address_services, place_pods
from pylb.policy.endpoints import PodIndex, slices_of, unresolved_names
from pylb.policy.errors import ManifestError, Problem
from pylb.policy.labspec import LabDocument, complete
from pylb.policy.manifests import Understood
from pylb.policy.model import (
    EndpointSlice,
    Key,
    LabSpec,
    Node,
    Overlay,
    Pod,
    Policy,
    Service,
)
from pylb.policy.objects import RawObject, Ref
from pylb.policy.pools import AddressPool, pool_of_lab
from pylb.policy.redirects import RedirectPolicy
from pylb.policy.redirects import concerned as select_redirects
from pylb.policy.workloads import PodTemplate


@dataclass(frozen=True)
class Built:
    """A policy and what is needed to build the next one from it.

    ``pods`` are as their manifests have them, readiness not observed; ``given``
    holds the user's slices by Service; ``sources`` the object that each pod came
    from; ``redirects`` the policies that redirect, with their selectors; ``index`` finds
    the policy's pods; ``sharing`` is what `pylb.policy.takers.sharers` says.
    """

    policy: Policy
    warnings: tuple[str, ...]
    pods: Mapping[Key, Pod]
    given: Mapping[Key, Mapping[str, EndpointSlice]]
    sources: Mapping[Key, RawObject]
    redirects: Mapping[Key, RedirectPolicy]
    index: PodIndex
    sharing: Mapping[Key, tuple[Key, ...]]


def build(
    objects: Mapping[Ref, Understood],
    ready: Mapping[Key, bool],
    overlay: Overlay | None,
    previous: Built | None,
) -> Built:
    """Everything anew, assignments kept; raises `ManifestError`."""
    problems: list[Problem] = []
    nodes = _collect_nodes(objects)
    lab_raw, lab = _lab(objects, nodes, overlay, problems)
    problems += validate.check_lab(lab_raw, lab) + validate.check_nodes(nodes, lab)
    if problems:
        raise ManifestError(problems)
    plain_nodes = {name: node for name, (_, node) in sorted(nodes.items())}

    templates = _collect_pods(objects, problems)
    sources = {key: raw for key, (raw, _) in templates.items()}
    pods_before = previous.policy.pods if previous else {}
    pods = place_pods(templates, plain_nodes, pods_before, problems)
    raw_services = {
        m.key: (u.raw, m) for u in objects.values() for m in u.models if isinstance(m, Service)
    }
    before = previous.policy.services if previous else {}
    warnings: list[str] = []
    pools = _pools(objects, lab_raw, lab, plain_nodes, problems)
    models = [model for each in objects.values() for model in each.models]
    redirects_of = (m.redirect.address for m in models if isinstance(m, RedirectPolicy))
    redirected = {address for address in redirects_of if address is not None}
    services = address_services(
        raw_services, lab, plain_nodes, before, pools, redirected, problems, warnings
    )
    service_raws = {key: raw for key, (raw, _) in raw_services.items()}
    problems += validate.check_pods(pods, sources, plain_nodes, lab, pods_before)
    problems += validate.check_services(services, service_raws, lab, plain_nodes, before)
    redirects = _collect_redirects(objects, services, plain_nodes, problems, warnings)
    given = _collect_slices(objects, services, lab, problems, warnings)
    if problems:
        raise ManifestError(problems)
    observed = _observe(pods, ready)
    index = PodIndex(observed)
    slices: dict[Key, tuple[EndpointSlice, ...]] = {}
    for key, service in services.items():
        slices[key] = slices_of(service, given.get(key, {}).values(), index, plain_nodes)
        for i, name in unresolved_names(service, index):
            protocol = service.ports[i].protocol.value
            message = f"no selected pod has a {protocol} port of the name {name!r}"
            at = f"spec.ports[{i}].targetPort"
            warnings.append(str(service_raws[key].problem(at, message)))
    sharing = takers.sharers(services)
    for key, address, other in takers.at_odds(services, sharing):
        message = (
            f"Local, but Service {'/'.join(other)} has {address} too: "
            "only nodes with endpoints of both take what comes from outside"
        )
        warnings.append(str(service_raws[key].problem("spec.externalTrafficPolicy", message)))
    taking = takers.agreed(services, services, slices, plain_nodes, sharing)
    policy = Policy(lab, plain_nodes, observed, services, slices, taking)
    policy = _redirected(policy, redirects, redirects.values(), index)
    return Built(policy, tuple(warnings), pods, given, sources, redirects, index, sharing)


def rebuild_endpoints(
    built: Built,
    objects: Mapping[Ref, Understood],
    ready: Mapping[Key, bool],
    pods: Iterable[Key],
    touched: Iterable[Ref],
) -> Built:
    """Only what follows from the readiness of ``pods`` and the ``touched`` endpoint objects."""
    policy = built.policy
    observed = policy.pods
    concerned: set[Key] = set()
    redirecting: list[RedirectPolicy] = []
    changed = {key: built.pods[key] for key in pods if key in built.pods}
    if changed:
        observed = {**observed, **_observe(changed, ready)}
        redirecting = select_redirects(built.redirects.values(), changed.values())
        for key, service in policy.services.items():
            for pod in changed.values():
                if (
                    service.selector
                    and service.namespace == pod.namespace
                    and service.selector.items() <= pod.labels.items()
                ):
                    concerned.add(key)
    given, warnings = built.given, built.warnings
    for ref in touched:
        given = _replace_given(given, ref, objects.get(ref), policy, concerned)
    index = PodIndex(observed) if changed else built.index
    if not concerned and not redirecting:
        return replace(built, policy=replace(policy, pods=observed), given=given, index=index)
    slices, services, nodes = dict(policy.slices), policy.services, policy.nodes
    known = concerned & services.keys()
    for key in known:
        slices[key] = slices_of(services[key], given.get(key, {}).values(), index, nodes)
    taking = takers.agreed(known, services, slices, nodes, built.sharing)
    taking = {**policy.takers, **taking}
    policy = replace(policy, pods=observed, slices=slices, takers=taking)
    policy = _redirected(policy, built.redirects, redirecting, index)
    return replace(built, policy=policy, given=given, warnings=warnings, index=index)


def _redirected(
    policy: Policy,
    every: Mapping[Key, RedirectPolicy],
    changed: Iterable[RedirectPolicy],
    index: PodIndex,
) -> Policy:
    """The policy with the pods that ``changed`` redirect to; ``every`` are all there are."""
    resolved = {each.redirect.key: each.resolve(index) for each in changed}
    if not resolved:
        return policy
    addresses, services = dict(policy.redirects), dict(policy.redirected)
    # In the policy's own order: that of a set differs from run to run, and with it the plan's.
    for key, redirect in resolved.items():
        if key not in every:
            continue
        if redirect.service is not None:
            services[redirect.service] = redirect
        else:
            addresses[key] = redirect
    return replace(policy, redirects=addresses, redirected=services)


def _replace_given(
    given: Mapping[Key, Mapping[str, EndpointSlice]],
    ref: Ref,
    understood: Understood | None,
    policy: Policy,
    concerned: set[Key],
) -> Mapping[Key, Mapping[str, EndpointSlice]]:
    """``given`` with one endpoint object put in, or taken out when it is None."""
    problems: list[Problem] = []
    new: dict[Key, dict[str, EndpointSlice]] = {}
    for each in _slices(understood, policy.services) if understood else ():
        assert understood is not None
        problems += validate.check_slice(understood.raw, each, policy.lab)
        new.setdefault(each.service_key, {})[f"{ref.kind}/{each.name}"] = each
    if problems:
        raise ManifestError(problems)
    result = dict(given)
    for key in _owners(given, ref) | new.keys():
        old = {n: s for n, s in given.get(key, {}).items() if not _is_from(n, ref)}
        result[key] = {**old, **new.get(key, {})}
        concerned.add(key)
    return result


def _owners(given: Mapping[Key, Mapping[str, EndpointSlice]], ref: Ref) -> set[Key]:
    """The Services that have slices from the object ``ref``."""
    if ref.kind == "Endpoints":
        return {(ref.namespace, ref.name)}
    name = f"{ref.kind}/{ref.name}"
    return {key for key, slices in given.items() if key[0] == ref.namespace and name in slices}


def _is_from(name: str, ref: Ref) -> bool:
    if ref.kind == "Endpoints":
        return name.startswith("Endpoints/")
    return name == f"{ref.kind}/{ref.name}"


def _slices(understood: Understood, services: Mapping[Key, Service]) -> Iterable[EndpointSlice]:
    """An endpoint object's slices; Kubernetes itself writes the Endpoints of a selector."""
    for each in understood.models:
        if not isinstance(each, EndpointSlice):
            continue
        service = services.get(each.service_key)
        if understood.raw.kind == "Endpoints" and service is not None and service.selector:
            continue
        yield each


def _collect_nodes(objects: Mapping[Ref, Understood]) -> dict[str, tuple[RawObject, Node]]:
    return {m.name: (u.raw, m) for u in objects.values() for m in u.models if isinstance(m, Node)}


def _lab(
    objects: Mapping[Ref, Understood],
    nodes: Mapping[str, tuple[RawObject, Node]],
    overlay: Overlay | None,
    problems: list[Problem],
) -> tuple[RawObject | None, LabSpec]:
    found = [(u.raw, m) for u in objects.values() for m in u.models if isinstance(m, LabDocument)]
    for extra, _ in found[1:]:
        problems.append(extra.problem("", f"there is a Lab already: {found[0][0].name}"))
    raw = found[0][0] if found else None
    document = found[0][1] if found else LabDocument()
    if not nodes:
        problems.append(Problem("<policy>", 0, "", "", "expected at least one Node"))
    lab = complete(document, [node for _, node in nodes.values()])
    if lab is None and nodes:
        addresses = ", ".join(sorted(str(node.internal_ip) for _, node in nodes.values()))
        message = f"no /24 holds every InternalIP ({addresses}): give one in a Lab document"
        problems.append(Problem("<lab>", 0, "Lab", "spec.underlay.subnet", message))
    if problems or lab is None:
        raise ManifestError(problems)
    if overlay is not None and overlay is not lab.overlay:
        # A port that was meant for the other overlay does not carry over.
        lab = replace(lab, overlay=overlay, overlay_port=0)
    return raw, lab


def _collect_pods(
    objects: Mapping[Ref, Understood], problems: list[Problem]
) -> dict[Key, tuple[RawObject, PodTemplate]]:
    templates: dict[Key, tuple[RawObject, PodTemplate]] = {}
    for understood in objects.values():
        for model in understood.models:
            if not isinstance(model, PodTemplate):
                continue
            first = templates.setdefault(model.pod.key, (understood.raw, model))
            if first[1] is not model:
                message = f"its pod {'/'.join(model.pod.key)} is {first[0].ref}'s already"
                problems.append(understood.raw.problem("metadata.name", message))
    return templates


def _pools(
    objects: Mapping[Ref, Understood],
    lab_raw: RawObject | None,
    lab: LabSpec,
    nodes: Mapping[str, Node],
    problems: list[Problem],
) -> dict[str, AddressPool]:
    """The pools that LoadBalancer addresses come from, by name: the Lab's and MetalLB's."""
    found: list[tuple[RawObject, str, AddressPool]] = []
    if lab_raw is not None:
        found += [
            (lab_raw, f"spec.addressPools[{i}]", pool_of_lab(name, ranges))
            for i, (name, ranges) in enumerate(lab.address_pools)
        ]
    found += [
        (u.raw, "spec", m) for u in objects.values() for m in u.models if isinstance(m, AddressPool)
    ]
    problems += validate.check_pools(found, lab, nodes)
    return {pool.name: pool for _, _, pool in found}


def _collect_redirects(
    objects: Mapping[Ref, Understood],
    services: Mapping[Key, Service],
    nodes: Mapping[str, Node],
    problems: list[Problem],
    warnings: list[str],
) -> dict[Key, RedirectPolicy]:
    found = {
        m.redirect.key: (u.raw, m)
        for u in objects.values()
        for m in u.models
        if isinstance(m, RedirectPolicy)
    }
    raws = {key: raw for key, (raw, _) in found.items()}
    redirects = {key: each for key, (_, each) in sorted(found.items())}
    plain = {key: each.redirect for key, each in redirects.items()}
    problems += validate.check_redirects(plain, raws, services, nodes, warnings)
    return redirects


def _collect_slices(
    objects: Mapping[Ref, Understood],
    services: Mapping[Key, Service],
    lab: LabSpec,
    problems: list[Problem],
    warnings: list[str],
) -> dict[Key, dict[str, EndpointSlice]]:
    given: dict[Key, dict[str, EndpointSlice]] = {}
    for ref, understood in objects.items():
        if ref.kind not in ("EndpointSlice", "Endpoints"):
            continue
        used = list(_slices(understood, services))
        if len(used) < len(understood.models):
            message = "is not acted on: the Service's selector makes its endpoints"
            warnings.append(str(understood.raw.problem("", message)))
        for each in used:
            problems += validate.check_slice(understood.raw, each, lab)
            if each.service_key not in services:
                message = f"there is no Service {'/'.join(each.service_key)}"
                warnings.append(str(understood.raw.problem("", message)))
            given.setdefault(each.service_key, {})[f"{ref.kind}/{each.name}"] = each
    return given


def _observe(pods: Mapping[Key, Pod], ready: Mapping[Key, bool]) -> dict[Key, Pod]:
    """Pods with the readiness that was observed where their manifests say nothing."""
    return {
        key: replace(pod, ready=ready[key]) if pod.ready is None and key in ready else pod
        for key, pod in pods.items()
    }
