#!/usr/bin/env bash
# A pod that is its own backend.
#
# The pod asks its Service, and the only backend is the pod itself.  Were only the
# destination translated, the pod would get a packet from its own address, answer
# itself directly, and its client socket, which asked the Service, would not know
# the answer.  So the source is translated too, to the tunnel end of its node, and
# the answer comes back through the daemon.

# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"
lab_up wkhairpin

say "The pod 'solo' (10.244.2.x, on node2) asks the Service 'solo'."
answer=$(show in_lab solo -- curl -sS -m 5 http://10.96.0.20/)
echo "$answer" | grep -E 'client_address|hostname'
expect "hostname=solo" "$answer"

say "It saw not itself but the tunnel end of node2, the network address of its podCIDR."
expect "client_address=10.244.2.0" "$answer"

say "The conntrack entry: asked 10.96.0.20, answered to 10.244.2.0."
flow=$(show "$pylb" conntrack -L --lab "$lab" --node node2 -d 10.96.0.20 2>/dev/null)
echo "$flow"
expect "dst=10.244.2.0" "$flow"

say "No interface has that address: only the daemon answers for it."
if in_lab node2 -- ip -br address | grep -w 10.244.2.0; then exit 1; fi

say "Asking itself by its own address needs no translation and no daemon."
direct=$(in_lab solo -- sh -c 'curl -sS -m 5 http://$(hostname):8080/')
expect "hostname=solo" "$direct"

say "As it must be."
