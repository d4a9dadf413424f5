#!/usr/bin/env bash
# A pod that is its own backend: a hairpin.
#
# The pod asks its Service, and the backend that is chosen is the pod itself.  First
# with the kernel alone and one rule of NAT, which is one too few, in two namespaces:
#
#   wkhp-pod  eth0 ───────── pod  wkhp-node
#   10.244.2.4                    10.244.2.1; 10.96.0.20:80 becomes 10.244.2.4:8080
#
# Then as pylb does it, in a lab of two nodes.

# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

clean_up() {
	for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
	wait
	for ns in wkhp-node wkhp-pod; do ip netns del $ns 2>/dev/null || true; done
}
trap clean_up EXIT

say "A node, a pod behind it, and a web server in the pod."
for ns in wkhp-node wkhp-pod; do
	ip netns add $ns
	ip netns exec $ns sysctl -qw net.ipv6.conf.all.disable_ipv6=1 \
		net.ipv4.conf.{all,default}.rp_filter=0 net.ipv4.conf.{all,default}.send_redirects=0
	ip -n $ns link set lo up
done
ip link add eth0 netns wkhp-pod type veth peer name pod netns wkhp-node
ip -n wkhp-node address add 10.244.2.1/24 dev pod
ip -n wkhp-node link set pod up
ip -n wkhp-pod address add 10.244.2.4/24 dev eth0
ip -n wkhp-pod link set eth0 up
ip -n wkhp-pod route add default via 10.244.2.1
ip netns exec wkhp-node sysctl -qw net.ipv4.ip_forward=1
ip netns exec wkhp-pod python3 -m http.server 8080 >/dev/null 2>&1 &
eventually '^200$' "ip netns exec wkhp-pod curl -s -o /dev/null -w '%{http_code}' http://10.244.2.4:8080/"

say "A Service is a rule: who asks 10.96.0.20:80 gets the pod.  Only the destination changes."
run 'ip netns exec wkhp-node nft -f - <<NFT
table ip nat {
	chain prerouting {
		type nat hook prerouting priority dstnat
		ip daddr 10.96.0.20 tcp dport 80 dnat to 10.244.2.4:8080
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
	}
}
NFT'

say "The pod asks the Service, which is itself.  Nothing comes back."
ask="ip netns exec wkhp-pod curl -s -m 2 -o /dev/null -w '%{http_code}' http://10.96.0.20/"
listen ip netns exec wkhp-pod timeout 20 tcpdump -l --immediate-mode -nni eth0 -c 2 tcp
run "$ask || echo \" exit status \$?\""
expect "exit status 28" "$output"

say "Why: this is what the pod's eth0 saw.  The question left for the Service, and came back
with the pod's own address as its source, for that is who had asked."
heard
expect "> 10.96.0.20.80: Flags [S]" "$output"
expect "> 10.244.2.4.8080: Flags [S]" "$output"
eventually '10.96.0.20' 'ip netns exec wkhp-node conntrack -L -d 10.96.0.20'
expect "[UNREPLIED] src=10.244.2.4 dst=10.244.2.4 sport=8080" "$output"

say "A host does not believe a packet that comes from the wire and claims to be from itself (a
'martian source'), so the pod threw it away: the server never saw it.  Would it help to believe it?"
run 'ip netns exec wkhp-pod sysctl -w net.ipv4.conf.eth0.accept_local=1'
listen ip netns exec wkhp-pod timeout 20 tcpdump -l --immediate-mode -nni lo -c 2 tcp
run "$ask || echo \" exit status \$?\""
expect "exit status 28" "$output"

say "No.  Now the server answered, and on the shortest way: the client's address is its own, so
the answer went over lo and never passed the node, which alone could have said that it is from
10.96.0.20.  The client had not asked 10.244.2.4:8080 anything, and refused (R)."
heard
expect "10.244.2.4.8080 > 10.244.2.4." "$output"
expect "Flags [S.]" "$output"
expect "Flags [R]" "$output"
ip netns exec wkhp-pod sysctl -qw net.ipv4.conf.eth0.accept_local=0

say "The cure is to translate the source too, so that the answer has to pass the node.  kube-proxy
marks such packets (its set KUBE-LOOP-BACK) and masquerades them; here it is one more rule."
run 'ip netns exec wkhp-node nft add rule ip nat postrouting \
	ip saddr 10.244.2.4 ip daddr 10.244.2.4 snat to 10.244.2.1'
run "${ask/-m 2/-m 10}"
expect "200" "$output"
eventually 'TIME_WAIT' 'ip netns exec wkhp-node conntrack -L -p tcp -d 10.96.0.20 --state TIME_WAIT'
expect "src=10.244.2.4 dst=10.244.2.1 sport=8080" "$output"
clean_up

say "Now pylb, dataplane $dataplane.  The pod 'solo' on node2 is the only backend of the Service 'solo'."
lab_up wkhairpin
run 'pylb get endpoints solo'
expect "10.244.2.4:8080" "$output"
run 'pylb lab exec solo -- curl -s -m 5 http://10.96.0.20/ | grep -E "client_address|hostname"'
expect "hostname=solo" "$output"

say "It saw not itself but the tunnel end of node2, the network address of its podCIDR."
expect "client_address=10.244.2.0" "$output"

say "The conntrack entry: it asked 10.96.0.20, and 10.244.2.0 was answered."
eventually 'TIME_WAIT' 'pylb conntrack -L --node node2 -d 10.96.0.20'
expect "src=10.244.2.4 dst=10.244.2.0 sport=8080" "$output"

say "No interface has that address: only what translates on node2 answers for it.  (The kernel
dataplane has it on its VXLAN device.)"
if [[ $dataplane != kernel* ]]; then
	reject "10.244.2.0/" "$(in_lab node2 -- ip -br address)"
fi

say "Every pod of the node that is somebody's backend needs this, for its own packets alone.  In
kube-proxy's sets (endpoint, port, source):"
run 'pylb sets KUBE-LOOP-BACK --node node2'
expect "10.244.2.4,tcp:8080,10.244.2.4" "$output"

say "Anybody else keeps its address on the way to the same backend."
run 'pylb lab exec client-2 -- curl -s -m 5 http://10.96.0.20/ | grep client_address'
expect "client_address=10.244.2.2" "$output"

say "As it must be."
