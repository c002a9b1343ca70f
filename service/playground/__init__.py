"""The browser page at /: static files that call the documented routes, and how they are served."""
