"""What every dialect shares on the wire: schemas, request fields, streaming, errors, events, the OpenAPI document."""
