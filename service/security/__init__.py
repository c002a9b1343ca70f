"""ASGI middleware that decides who may call, how often and how much: keys, rate limits, body limits, headers."""
