"""The page for people at /: static files that call the documented routes, and how they are served."""
