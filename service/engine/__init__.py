"""Batches sequences on threads, without HTTP, dialects or model names: schedule, prefill, decode, deliver."""
