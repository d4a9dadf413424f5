"""HTTP/1.1 with JSON on Unix sockets: how the CLI, a lab's controller and daemons talk."""
