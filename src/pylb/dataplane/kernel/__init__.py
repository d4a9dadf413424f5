"""The kernel as a dataplane: the same plan as a ruleset, and connection tracking as flows.

Everything here is text and bytes: `nft` and `iptables` write rulesets, `ctnetlink`
reads and writes netlink messages, `statistics` reads /proc.  What talks to the
kernel is `pylb.node.kernel`.
"""
