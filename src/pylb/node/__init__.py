"""The daemon of one node: descriptors, routing, the control API and what holds them together.

`daemon` is the composition root.  `tun` and `pump` own the descriptors,
`plumbing` what the kernel's routing must look like, `desired` which policy is
staged and which is committed, `api` what is served on the control socket.
"""
