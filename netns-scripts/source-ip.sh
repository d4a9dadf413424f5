#!/usr/bin/env bash
# Which address does a server see?  Kubernetes' tutorial "Using Source IP", step by step.
#
#   client 192.168.50.253 ─┬─ underlay ─┬─ node1 192.168.50.11  pods 10.244.1.0/24
#                          │            ├─ node2 192.168.50.12  pods 10.244.2.0/24
#                       router          └─ node3 192.168.50.13  pods 10.244.3.0/24
#
# The commands are the tutorial's, with pylb in kubectl's place.  The addresses that the
# server prints differ from the tutorial's in one thing: where kube-proxy masquerades a
# packet with "the address of the way out", pylb says which that is:
#
#   towards a pod of the same node      the node's own address, 192.168.50.11
#   towards a pod of another node       the tunnel's end, .0 of the node's podCIDR: 10.244.1.0
#   a process of the node, or a pod
#   that is its own backend             the tunnel's end, too

# shellcheck source=common.sh disable=SC2016
source "$(dirname "$0")/common.sh"

lab_up wksourceip -f - <<'YAML'
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.50.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDR: 10.244.2.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.50.12}]}
---
apiVersion: v1
kind: Node
metadata: {name: node3}
spec: {podCIDR: 10.244.3.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.50.13}]}
---
# What a cloud would have: addresses for load balancers.
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: outside, namespace: metallb-system}
spec: {addresses: [203.0.113.140/32]}
YAML

say "Before you begin
A small web server that says in its answer from which address it was asked."
run 'pylb create deployment source-ip-app --image=registry.k8s.io/echoserver:1.10'
eventually '1/1' 'pylb get pods -o wide'
expect "node1" "$output"

say "Source IP for Services with Type=ClusterIP
A pod that asks a Service keeps its own address, whatever the proxy mode."
run 'pylb get nodes'
run 'pylb lab exec node1 -- curl -s http://localhost:10249/proxyMode'
expect "$dataplane" "$output"
run 'pylb expose deployment source-ip-app --name=clusterip --port=80 --target-port=8080'
run 'pylb get svc clusterip'
keep CLUSTERIP 'pylb get svc clusterip -o jsonpath="{.spec.clusterIP}"'

say "A pod asks.  It is on another node than the server."
run 'pylb run busybox --image=busybox:1.28 -- sleep infinity'
eventually '1/1' 'pylb get pod busybox -o wide'
expect "node2" "$output"
run 'pylb lab exec busybox -- ip -4 -br address show dev eth0 | grep -o "10[.][0-9./]*"'
expect "10.244.2.2/24" "$output"
run 'pylb lab exec busybox -- curl -s $CLUSTERIP'
say "client_address is the pod's own address.  Only the destination was translated, which conntrack
on the pod's node shows: asked was the cluster IP, the answer comes from the server's pod."
expect "client_address=10.244.2.2" "$output"
eventually 'TIME_WAIT' 'pylb conntrack -L --node node2 -d $CLUSTERIP'
expect "src=10.244.1.2 dst=10.244.2.2" "$output"

say "A process of the node itself is no pod: its answers would be delivered to the node past what
translates.  So it gets the tunnel's end as its source, 10.244.2.0, and the answers come back there."
run 'pylb lab exec node2 -- curl -s $CLUSTERIP | grep client_address'
expect "client_address=10.244.2.0" "$output"

say "Source IP for Services with Type=NodePort
Packets from outside are source NAT'd by default."
run 'pylb expose deployment source-ip-app --name=nodeport --port=80 --target-port=8080 --type=NodePort'
keep NODEPORT 'pylb get -o jsonpath="{.spec.ports[0].nodePort}" services nodeport'
keep NODES "pylb get nodes -o jsonpath='{ \$.items[*].status.addresses[?(@.type==\"InternalIP\")].address }'"
run 'for node in $NODES; do
	pylb lab exec client -- curl -s $node:$NODEPORT | grep -i client_address
done'

say "These are not the client's address, which is 192.168.50.253, but the nodes':
 - the client sends its packet to a node's port,
 - the node puts an address of its own in the source's place (SNAT),
 - and the address of a pod in the destination's place,
 - so that the pod's answer comes back to the node, which alone can undo both.
node1 has the pod itself and used its own address.  node2 and node3 sent the packet on through
the tunnel, and used their ends of it."
[[ $output == "client_address=192.168.50.11
client_address=10.244.2.0
client_address=10.244.3.0" ]] || expect "three nodes' addresses" "$output"
eventually 'TIME_WAIT' 'pylb conntrack -L --node node1 -s 192.168.50.253'
expect "dst=192.168.50.11 sport=8080" "$output"
eventually 'TIME_WAIT' 'pylb conntrack -L --node node2 -s 192.168.50.253'
expect "src=10.244.1.2 dst=10.244.2.0" "$output"

say "externalTrafficPolicy: Local keeps the client's address.  A node then sends to its own pods
alone: there is no second hop, whose answer would have to come back through it."
run "pylb patch svc nodeport -p '{\"spec\":{\"externalTrafficPolicy\":\"Local\"}}'"
run 'pylb lab exec client -- curl -s 192.168.50.11:$NODEPORT | grep -i client_address'
expect "client_address=192.168.50.253" "$output"
eventually "dst=192.168.50.253 sport=8080" 'pylb conntrack -L --node node1 -s 192.168.50.253 --reply-dst 192.168.50.253'

say "The other nodes do not answer, not even with a refusal: so the client tries again, and by then a
load balancer may have heard (see below) that it must not send to them.  28 is curl's timeout."
run 'for node in 192.168.50.12 192.168.50.13; do
	pylb lab exec client -- curl -s -m 1 $node:$NODEPORT || echo "$node: exit status $?"
done'
expect "192.168.50.12: exit status 28" "$output"
expect "192.168.50.13: exit status 28" "$output"

if [[ $dataplane != kernel-iptables ]]; then
	say "Nothing is lost without a trace: the nodes have counted what they dropped, and why."
	run 'pylb counters drop_no_local_endpoint'
	reject "node1" "$output"
	expect "node2   drop_no_local_endpoint" "$output"
	expect "node3   drop_no_local_endpoint" "$output"
fi

say "Source IP for Services with Type=LoadBalancer
The load balancer of this lab is its router: it spreads connections over the nodes that may take
them.  Each address of the list is a node, on its way to the pod."
run 'pylb expose deployment source-ip-app --name=loadbalancer --port=80 --target-port=8080 --type=LoadBalancer'
run 'pylb get svc loadbalancer'
expect "203.0.113.140" "$output"
run 'pylb lab exec router -- ip route show 203.0.113.140 | grep -o "via [0-9.]*"'
run 'pylb lab exec client -- curl -s -H "Connection: close" "http://203.0.113.140/[1-60]" |
	grep client_address | sort -u'
[[ $output == "client_address=10.244.2.0
client_address=10.244.3.0
client_address=192.168.50.11" ]] || expect "three nodes' addresses" "$output"

say "Local, again.  The Service gets a port for health checks: there the load balancer asks each
node whether it has an endpoint."
run "pylb patch svc loadbalancer -p '{\"spec\":{\"externalTrafficPolicy\":\"Local\"}}'"
run 'pylb get svc loadbalancer -o yaml | grep -i healthCheckNodePort'
keep HEALTH 'pylb get svc loadbalancer -o jsonpath="{.spec.healthCheckNodePort}"'
run 'pylb get pod -o wide -l app=source-ip-app'
run 'pylb lab exec node1 -- curl -s -w "%{http_code}\n" localhost:$HEALTH/healthz'
expect "1 Service Endpoints found" "$output"
expect "200" "$output"
run 'pylb lab exec node2 -- curl -s -w "%{http_code}\n" localhost:$HEALTH/healthz'
expect "No Service Endpoints Found" "$output"
expect "503" "$output"

say "Who asks for JSON gets what kube-proxy answers."
run 'pylb lab exec client -- curl -s -H "Accept: application/json" http://192.168.50.13:$HEALTH/healthz'
expect '"localEndpoints": 0' "$output"

say "So the router sends to node1 alone, and the server sees the client."
run 'pylb lab exec router -- ip route show 203.0.113.140 | grep -o "via [0-9.]*"'
[[ $output == "via 192.168.50.11" ]] || expect "node1 alone" "$output"
run 'pylb lab exec client -- curl -s -H "Connection: close" "http://203.0.113.140/[1-60]" |
	grep client_address | sort -u'
[[ $output == "client_address=192.168.50.253" ]] || expect "the client alone" "$output"

say "Inside the cluster nobody has to go round by the load balancer, not even with Local and from a
node without an endpoint: pods reach the address at once, and keep theirs."
run 'pylb lab exec busybox -- curl -s 203.0.113.140 | grep client_address'
expect "client_address=10.244.2.2" "$output"

say "A second pod, on another node: that node's health check says so, and the router sends there too."
run 'pylb scale deployment source-ip-app --replicas=2'
eventually '2/2' 'pylb get deployment source-ip-app'
run 'pylb get pod -o wide -l app=source-ip-app'
expect "node3" "$output"
eventually '1 Service Endpoints found' 'pylb lab exec node3 -- curl -s localhost:$HEALTH/healthz'
eventually '192.168.50.13' 'pylb lab exec router -- ip route show 203.0.113.140 | grep -o "via [0-9.]*"'
[[ $output == "via 192.168.50.11
via 192.168.50.13" ]] || expect "node1 and node3" "$output"

say "Cleaning up"
run 'pylb delete svc -l app=source-ip-app'
run 'pylb delete pod busybox'
run 'pylb delete deployment source-ip-app'
expect "deleted" "$output"

say "As it must be."
