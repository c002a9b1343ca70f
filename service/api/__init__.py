"""Shared by all dialects: schemas, request fields, streaming, errors, events, the OpenAPI document."""
