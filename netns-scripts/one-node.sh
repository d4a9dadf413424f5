#!/usr/bin/env bash
# One node by hand, without the lab: what the lab does for each node.
#
#   wkone-pod1 ─┐
#               cni0 ── pylb0 (the daemon) ── eth0 ─── wkone-out
#   wkone-pod2 ─┘        in wkone-node                 192.168.50.253

# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"
userspace_only

node=wkone-node out=wkone-out lab=wkone
run=/run/pylb/$lab
log=$(mktemp)
daemon=
clean_up() {
	[[ -z $daemon ]] || kill "$daemon" 2>/dev/null || true
	for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
	for ns in $node $out wkone-pod1 wkone-pod2; do ip netns del "$ns" 2>/dev/null || true; done
	rm -rf "$run" "$log" "$log.yaml"
}
trap clean_up EXIT

say "A node and somebody outside, joined by a cable."
for ns in $node $out wkone-pod1 wkone-pod2; do ip netns add "$ns"; ip -n "$ns" link set lo up; done
ip link add eth0 netns $node type veth peer name eth0 netns $out
ip -n $node address add 192.168.50.11/24 dev eth0
ip -n $out address add 192.168.50.253/24 dev eth0
ip -n $node link set eth0 up
ip -n $out link set eth0 up

say "A bridge and two pods on it.  Their ports are isolated: even neighbours meet through the node."
ip -n $node link add cni0 mtu 1450 type bridge
ip -n $node address add 10.244.1.1/24 dev cni0
ip -n $node link set cni0 up
for i in 1 2; do
	ip link add eth0 mtu 1450 netns wkone-pod$i type veth peer name pod$i netns $node
	ip -n $node link set pod$i mtu 1450 master cni0 up
	bridge -n $node link set dev pod$i isolated on
	ip -n wkone-pod$i address add 10.244.1.$((i + 1))/24 dev eth0
	ip -n wkone-pod$i link set eth0 up
	ip -n wkone-pod$i route add default via 10.244.1.1
done

say "A policy: one node, two pods, a Service, and the daemon that obeys it."
cat >"$log.yaml" <<'YAML'
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.50.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: pod1}
spec: {nodeName: node1, containers: [{image: pause}]}
status: {podIP: 10.244.1.2}
---
apiVersion: v1
kind: Pod
metadata: {name: pod2, labels: {app: web}}
spec: {nodeName: node1, containers: [{image: pause}]}
status: {podIP: 10.244.1.3}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
YAML
ip netns exec $node "$pylb" daemon --node node1 --lab $lab --dataplane "$dataplane" \
	-f "$log.yaml" 2>"$log" &
daemon=$!
ip netns exec wkone-pod2 python3 -m http.server 8080 >/dev/null 2>&1 &
for _ in $(seq 100); do
	ip netns exec wkone-pod1 curl -s -m 1 -o /dev/null http://10.96.0.10/ && break
	kill -0 "$daemon" || { cat "$log" >&2; exit 1; }
done

say "The pod next door, by its Service; and the same from outside, by the node's port."
show ip netns exec wkone-pod1 curl -sS -m 5 -o /dev/null -w '%{http_code}\n' http://10.96.0.10/
show ip netns exec $out curl -sS -m 5 -o /dev/null -w '%{http_code}\n' http://192.168.50.11:30080/
eventually TIME_WAIT "pylb conntrack -L --lab $lab --node node1 -d 192.168.50.11"
expect "dst=192.168.50.11" "$output"

say "The rules that bring packets to the daemon's TUN:"
show ip -n $node rule | sed -n 1,4p

say "SIGTERM ends the daemon and keeps its rules: pods still meet, the Service is gone for now."
kill "$daemon"
wait "$daemon" || true
daemon=
show ip netns exec wkone-pod1 curl -sS -m 5 -o /dev/null -w '%{http_code}\n' http://10.244.1.3:8080/
if ip netns exec wkone-pod1 curl -s -m 1 -o /dev/null http://10.96.0.10/; then exit 1; fi

say "--clean takes everything away that it had made."
ip netns exec $node "$pylb" daemon --node node1 --lab $lab --clean 2>>"$log"
rules=$(ip -n $node rule)
echo "$rules"
[[ $(wc -l <<<"$rules") -eq 3 ]]

say "As it must be."
