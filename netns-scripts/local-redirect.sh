#!/usr/bin/env bash
# A local redirection: an address that each node answers with its own pods.
#
#   node1: client-1, nginx-0          node2: client-2, central
#              └────────── router ──────────┘
#                            │
#                    faraway 10.10.10.10:8080
#
# A CiliumLocalRedirectPolicy sends what the pods and processes of a node ask at an address
# to a pod of that same node.  Where the node has no such pod there is no redirection.

# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"
lab_up wkredirect -f "$here/examples/local-redirect.yaml"

# Who answers at a URL, by the page that it serves.
ask() { in_lab "$1" -- curl -sS -m 5 "$2" | sed -n 's/.*\(This is [^.]*\).*/\1/p'; }

url=http://10.10.10.10:8080/
everybody="for who in client-1 node1 client-2 node2; do echo \"\$who: \$(ask \$who $url)\"; done"

say "Without a policy 10.10.10.10 is a machine far away, and everybody gets there: 'ask'
fetches the page and shows who it is from."
run "$everybody"
[[ $(grep -c 'This is faraway' <<<"$output") -eq 4 ]]

say "The policy: port 8080 of that address is port 80 of the node's pods with app=nginx."
cd "$here/examples"
run "sed -n '/^spec/,\$p' local-redirect-policy.yaml"
run 'pylb apply -f local-redirect-policy.yaml'

say "node1 has such a pod and lists the address; node2 has none and does not."
run 'pylb service list | grep -v ClusterIP'
expect '10.10.10.10:8080/TCP   LocalRedirect   1 => 10.244.1.3:80/TCP (active)' "$output"
[[ $(grep -c LocalRedirect <<<"$output") -eq 1 ]]

say "On node1 pod and process are answered at home.  On node2 the packet goes on as if
there were no policy, to the machine far away."
run "$everybody"
expect 'client-1: This is nginx-0
node1: This is nginx-0
client-2: This is faraway
node2: This is faraway' "$output"

say "No translation of the source is needed for a pod: the answer passes its node anyway.
A process of the node is seen as the tunnel end, as with every virtual address."
run "pylb logs nginx-0 | awk '{print \$1}'"
expect '10.244.1.2
10.244.1.0' "$output"

say "The pod asks itself by that address: NAT loopback.  It sees the tunnel end too."
run "ask nginx-0 $url"
expect nginx-0 "$output"
run "pylb trace nginx-0:40001 10.10.10.10:8080"
expect '10.244.1.3:80   node1   10.244.1.0' "$output"

say "The article that made this manifest known says that any node can use the address.  That
holds for nodes that run a backend.  Nor is there mostly a machine at it; so take it away."
run 'in_lab router -- ip route del 10.10.10.10'
run "ask client-1 $url"
expect nginx-0 "$output"
run "ask client-2 $url 2>/dev/null || echo 'client-2: no answer'"
expect 'no answer' "$output"

say "So any node means: a backend on every node, as a DaemonSet has it.  With two replicas
there is one on each."
run 'pylb scale deployment nginx --replicas=2'
eventually 'nginx-1.*1/1.*node2' \
	"pylb get pods -l app=nginx -o wide | awk '{print \$1, \$2, \$7}'"
eventually nginx-1 "ask client-2 $url"

say "A policy can also take over a Service, here 'central' on node2.  Its new backends are
spared: what they ask of the Service goes to the Service (think of a DNS cache)."
run "pylb apply -f - <<'YAML'
apiVersion: cilium.io/v2
kind: CiliumLocalRedirectPolicy
metadata: {name: cache}
spec:
  skipRedirectFromBackend: true
  redirectFrontend:
    serviceMatcher: {serviceName: central, namespace: default}
  redirectBackend:
    localEndpointSelector: {matchLabels: {app: nginx}}
    toPorts: [{port: \"80\", protocol: TCP}]
YAML"
eventually nginx-0 'ask client-1 http://10.96.0.50/'
run 'ask nginx-0 http://10.96.0.50/'
expect central "$output"

say "When node2 loses its pod, its clients get the Service itself."
run 'ask client-2 http://10.96.0.50/'
expect nginx-1 "$output"
run 'pylb scale deployment nginx --replicas=1'
eventually central 'ask client-2 http://10.96.0.50/'

say "As it must be."
