"""The page in a real browser, and the pictures of it in docs; `make browser` installs and runs these."""
