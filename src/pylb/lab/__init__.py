"""The lab: a cluster of network namespaces, and the one process that runs it.

`lifetime` is what the command line calls.  `controller` is the process, the
composition root of the others: `cluster` makes machines (`netns`, `links`,
`etc`) and their `workloads` (`images`, `readiness`), `daemons` keeps the nodes'
daemons and tells them the policy, `api` is how it is spoken to.  `owned` records
what was made and `removal` removes exactly that.  `enter` is the way into a place.
"""
