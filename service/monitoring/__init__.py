"""How the server is doing: health, metrics, access log, logs."""
