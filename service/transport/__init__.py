"""Below HTTP: sockets, TLS, bounded connections, the gate that is open while a model loads."""
