#!/usr/bin/env bash
# A packet's way to a Service, seen at five places.
#
#   client-1 ── cni0 ── pylb0 [daemon] ── eth0 ═══ eth0 ── [daemon] pylb0 ── cni0 ── solo
#      (1)                                (2)                               (3)      (4)
#                       conntrack of both nodes (5)

# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"
lab_up wkclusterip

say "A pod on node1 asks the Service 'solo'.  Its only backend is a pod on node2."
answer=$(show in_lab client-1 -- curl -sS -m 5 http://10.96.0.20/)
echo "$answer" | grep -E 'client_address|hostname'

say "(1) and (4): the client asked 10.96.0.20, the backend saw the client's own address."
expect "client_address=10.244.1.2" "$answer"
expect "hostname=solo" "$answer"

say "(2) Between the nodes the packet is inside VXLAN: UDP from node to node, port 8472."
heard=$(mktemp)
in_lab node1 -- timeout 10 tcpdump -l --immediate-mode -nni eth0 -c 2 udp port 8472 \
	>"$heard" 2>"$heard.err" &
sniffer=$!
until grep -q 'listening on' "$heard.err"; do kill -0 $sniffer; sleep 0.05; done
in_lab client-1 -- curl -sS -m 5 -o /dev/null http://10.96.0.20/
wait $sniffer
wire=$(cat "$heard")
rm -f "$heard" "$heard.err"
echo "$wire"
expect "192.168.50.11" "$wire"
expect "192.168.50.12.8472" "$wire"

say "(5) node1 knows both what was asked and who answers; node2 only ever saw pod to pod."
one=$(show "$pylb" conntrack -L --lab "$lab" --node node1 -d 10.96.0.20 2>/dev/null)
echo "$one"
expect "dst=10.96.0.20" "$one"
expect "src=10.244.2" "$one"
two=$(show "$pylb" conntrack -L --lab "$lab" --node node2 -s 10.244.1.2 2>/dev/null)
echo "$two"
expect "src=10.244.1.2" "$two"
[[ $two != *10.96.0.20* ]]

say "As it must be."
