"""Below HTTP: sockets, TLS, limited connections, and answers while the model loads."""
