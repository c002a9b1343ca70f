"""Existing clients, unmodified, against a real server; `make clients` installs them and runs these."""
