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
run 'pylb lab exec client-1 -- curl -sS -m 5 http://10.96.0.20/'

say "(1) and (4): the client asked 10.96.0.20, the backend saw the client's own address."
expect "client_address=10.244.1.2" "$output"
expect "hostname=solo" "$output"

say "(2) Between the nodes the packet is inside VXLAN: UDP from node to node, port 8472.
The first packet and the answer to it:"
listen in_lab node1 -- timeout 20 tcpdump -l --immediate-mode -nni eth0 -c 2 udp port 8472
in_lab client-1 -- curl -sS -m 5 -o /dev/null http://10.96.0.20/
heard
expect "> 192.168.50.12.8472" "$output"
expect "> 10.244.2.4.8080" "$output"

say "(5) node1 knows both what was asked and who answers; node2 only ever saw pod to pod."
eventually 'TIME_WAIT.*TIME_WAIT' 'pylb conntrack -L --node node1 -d 10.96.0.20'
expect "dst=10.96.0.20" "$output"
expect "src=10.244.2" "$output"
eventually 'TIME_WAIT.*TIME_WAIT' 'pylb conntrack -L --node node2 -s 10.244.1.2'
expect "src=10.244.1.2" "$output"
reject "10.96.0.20" "$output"

say "As it must be."
