#!/usr/bin/env bash
# externalTrafficPolicy on nine nodes: whom a web server sees, and why.
#
#                                ┌── master1 ── nginx
#   user ── router ── underlay ──┼── master2 ── nginx      198.51.100.10:80
#   203.0.113.10   spreads over  ├── master3 ── nginx      is the Service
#                  the masters   └── worker1 … worker6
#
# The Service is a LoadBalancer whose address belongs to nobody: the router sends each
# connection to one of the three masters, and that node's daemon chooses one of three
# pods.  With policy Cluster it may be a pod of another node, with Local it may not.

# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"
lab_up wketp -f "$here/examples/nine-nodes.yaml" -f "$here/examples/external-traffic-policy.yaml"

# The user opens connections until the pods have seen as many addresses, all in all.  Each
# node gives its connections to the pods in turn, but how many it gets is by chance.
ask_until_seen() {
	local until=$((SECONDS + 60))
	until in_lab user -- curl -sS -m 10 -o /dev/null -H 'Connection: close' \
		'http://198.51.100.10/[1-30]' && [[ $(who_saw_whom | wc -l) -eq $1 ]]; do
		((SECONDS < until)) || { echo "not seen by all: $(who_saw_whom)" >&2; exit 1; }
	done
}

# Each pod and the addresses in its access log, once: the log's first field is the client.
who_saw_whom() { pylb logs -l app=nginx --prefix --tail=-1 | awk '{print $1, $2}' | sort -Vu; }

say "Three nodes have the label test-node=nginx; the ReplicaSet's pods run there."
run 'pylb get nodes -L test-node'
run "pylb get pods -l app=nginx -o custom-columns=POD:.metadata.name,NODE:.spec.nodeName,IP:.status.podIP"

say "The Service's address is no node's.  With Cluster every node may take it, and the lab's
router would spread connections over all nine; here only the masters are to take it."
run 'pylb get svc nginx -o custom-columns=TYPE:.spec.type,IP:.status.loadBalancer.ingress[0].ip,POLICY:.spec.externalTrafficPolicy'
run 'in_lab router -- ip route replace 198.51.100.10 \
    nexthop via 192.168.50.11 nexthop via 192.168.50.12 nexthop via 192.168.50.13'

say "CLUSTER.  The user asks from 203.0.113.10 until each master has chosen each pod.
The pods' logs say whom they saw, and no pod has seen the user.  192.168.50.x is the
pod's own node: the connection entered where the pod is.  10.244.x.0 is the tunnel end
of another node: it entered there."
ask_until_seen 9
run 'who_saw_whom'
reject 203.0.113.10 "$output"
expect '[pod/nginx-0] 192.168.50.11' "$output"
expect '[pod/nginx-0] 10.244.2.0' "$output"
expect '[pod/nginx-2] 10.244.1.0' "$output"

new=203.0.113.10:40001
say "Why: the decisions of each master about a new connection.  The address is in the set
KUBE-LOAD-BALANCER and not in KUBE-LOAD-BALANCER-LOCAL, so the packet is marked for
masquerade; its new source is the one by which the answer comes back to this node,
which has to undo the translation."
for node in master1 master2 master3; do
	run "pylb trace $new 198.51.100.10:80 --node $node"
	expect "KUBE-LOAD-BALANCER"$'\n' "$output"
	expect "masquerade  yes" "$output"
done

say "And what became of two connections that entered at master1: conntrack has the pod as src
of the answer, and as its dst whom the pod saw."
run "pylb conntrack -L --node master1 -d 198.51.100.10 -r 10.244.1.2 2>/dev/null | sed -n 1p"
expect " src=10.244.1.2 dst=192.168.50.11 " "$output"
run "pylb conntrack -L --node master1 -d 198.51.100.10 -r 10.244.2.2 2>/dev/null | sed -n 1p"
expect " src=10.244.2.2 dst=10.244.1.0 " "$output"

say "LOCAL.  One field is patched.  Nothing else changes: not the pods, not the route."
run $'pylb patch svc nginx -p \'{"spec":{"externalTrafficPolicy":"Local"}}\''
run 'pylb sets KUBE-LOAD-BALANCER-LOCAL --node master1 | tail -n 1'
expect 198.51.100.10,tcp:80 "$output"

say "Now each master gives what comes to it to its own pod.  There is no second hop, hence
no need to bring an answer back, hence no masquerade: all three pods see the user."
ask_until_seen 12
run "who_saw_whom | grep -w 203.0.113.10"
[[ $(wc -l <<<"$output") -eq 3 ]]
for node in master1 master2 master3; do
	run "pylb trace $new 198.51.100.10:80 --node $node"
	expect "KUBE-LOAD-BALANCER-LOCAL" "$output"
	expect "masquerade  no" "$output"
done

say "The price: a node without a pod drops what comes to it.  The router knows: with Local
the lab gives it routes to the nodes with a pod only."
run 'in_lab router -- ip route show 198.51.100.10'
reject 192.168.50.14 "$output"

say "Who sends there all the same waits in vain; the daemon has a name for it."
run "pylb trace $new 198.51.100.10:80 --node worker1"
in_lab client -- ip route add 198.51.100.10 via 192.168.50.14
if in_lab client -- curl -sS -m 1 -o /dev/null http://198.51.100.10/ 2>/dev/null; then exit 1; fi
eventually drop_no_local_endpoint \
	'pylb counters --node worker1 "drop_*" | grep -o "drop_[a-z_]*"'

say "A process of that node is inside the cluster: it gets a pod, wherever one is.  It is
masqueraded all the same, since a host's own address would be answered past the daemon."
run 'in_lab worker1 -- curl -sS -m 5 -o /dev/null -w "%{http_code}\n" http://198.51.100.10/'
expect 200 "$output"
run 'pylb trace worker1:40001 198.51.100.10:80'
expect 10.244.4.0 "$output"

say "As it must be."
