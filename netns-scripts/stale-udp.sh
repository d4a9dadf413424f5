#!/usr/bin/env bash
# A UDP sender that never waits for an answer, while the servers behind it come and go.
#
#   sender ── 10.96.0.30:9000 (Service 'sink') ──┬── old-0 on node2
#   on node1, one socket, 20 datagrams a second  └── new-0 on node1
#
# The same cluster twice, with the kernel's conntrack and NAT and with pylb's own.  UDP has
# no connection, so only conntrack says which datagrams belong together; what it remembers
# of a server that is gone, it remembers for as long as the sender talks.

# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"
userspace_only  # the kernel's dataplane is there anyway
kernel=wkudpkernel ours=wkudpours
trap 'for each in $kernel $ours; do pylb lab down --name $each >/dev/null || true; done' EXIT

at_kernel() { PYLB_LAB=$kernel pylb "$@"; }
at_ours() { PYLB_LAB=$ours pylb "$@"; }

# The same change in both labs at once.
both() {
	local status=0
	at_kernel "$@" >/dev/null &
	at_ours "$@" >/dev/null || status=$?
	wait $! || status=$?
	return $status
}

# The number of the last datagram that was sent, or that a server got.
sent() { "$1" logs sender --tail 2 | sed -n '1s/ .*//p'; }
got() { "$1" logs "$2-0" --tail 2 2>/dev/null | sed -n 1p | grep . || echo 0; }

# Who gets what the sender sends from now on: somebody, or after 20 datagrams nobody.
hears() {
	local lab=$1 from now server until=$((SECONDS + 60))
	from=$(sent "$lab")
	now=$from
	until ((now > from + 20)); do
		((SECONDS < until)) || return 1
		now=$(sent "$lab")
		for server in old new; do
			if (($(got "$lab" $server) > from)); then
				echo "$server-0"
				return
			fi
		done
	done
	echo nobody
}
hearing() {
	local first second
	first=$(hears at_kernel) && second=$(hears at_ours) || return 1
	printf '%s\n' "kernel: $first" "$dataplane: $second"
}

# What conntrack of the sender's node has of the Service.
flow() { "$1" conntrack -L --node node1 -p udp -d 10.96.0.30 2>/dev/null | sed 's/ mark=.*//'; }

at_kernel lab up -q --dataplane kernel -f "$here/examples/stale-udp.yaml"
at_ours lab up -q --dataplane "$dataplane" -f "$here/examples/stale-udp.yaml"

say "There is one server, old-0, and 'hearing' shows who gets what is sent from now on.  Both
conntracks have the sender's flow, and old-0's address as src of the answer."
eventually "kernel: old-0.*$dataplane: old-0" hearing
run 'flow at_kernel'
expect 'src=10.244.2.2 dst=10.244.1.2' "$output"
run 'flow at_ours'
expect 'src=10.244.2.2 dst=10.244.1.2' "$output"

say "A rollout: new-0 comes, then old-0 goes.  It is the usual way of an update."
run 'both scale deployment new --replicas=1'
run 'both scale deployment old --replicas=0'

say "pylb holds the flow's next datagram against the new plan, and gives it to new-0.  The
kernel translates by its conntrack entry, which no rule changes: every datagram goes to
10.244.2.2, where nobody is any more.  The sender does not notice: it never got an answer."
eventually "kernel: nobody.*$dataplane: new-0" hearing
run 'flow at_kernel'
expect 'src=10.244.2.2 dst=10.244.1.2' "$output"
run 'flow at_ours'
expect 'src=10.244.1.' "$output"
reject 10.244.2.2 "$output"

say "Scaled to zero.  pylb refuses, as a closed port does, and the sender is told."
run 'both scale deployment new --replicas=0'
eventually refused "at_ours logs sender --tail 20 | grep -o 'Connection refused' | sort -u"
run 'flow at_ours'
[[ -z $output ]]
run 'flow at_kernel'
expect 'src=10.244.2.2 dst=10.244.1.2' "$output"

say "Scaled up again.  The next datagram arrives; with the kernel none does."
run 'both scale deployment new --replicas=1'
eventually "kernel: nobody.*$dataplane: new-0" hearing

say "The Service is deleted.  pylb forgets the flow with its next datagram; the kernel goes
on to translate for a Service that is not there."
run 'both delete svc sink'
eventually "kernel: nobody.*$dataplane: nobody" hearing
run 'flow at_ours'
[[ -z $output ]]
run 'flow at_kernel'
expect 'src=10.244.2.2 dst=10.244.1.2' "$output"

say "It is made anew."
run 'both expose deployment new --name=sink --port=9000 --protocol=UDP --cluster-ip=10.96.0.30'
eventually "kernel: nobody.*$dataplane: new-0" hearing

say "The kernel's entry lives until the sender is silent for 30 s, so as long as it talks:
hours, for a sender of logs or metrics.  kube-proxy therefore deletes such entries itself
when endpoints go, and has had to learn case by case which; pylb's kernel dataplane
does not, and shows what there is to delete."

say "As it must be."
