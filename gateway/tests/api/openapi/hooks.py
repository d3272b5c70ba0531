"""Teaches schemathesis the media types of the API that it does not know."""

import schemathesis

schemathesis.serializer.alias("application/wasm", "application/octet-stream")
schemathesis.serializer.alias("application/x-tar", "application/octet-stream")
schemathesis.serializer.alias("application/x-ndjson", "application/octet-stream")


@schemathesis.deserializer("application/wasm", "application/octet-stream", "application/x-ndjson")
def text_of(ctx, response):
    """A binary format is a string to a schema."""
    return response.content.decode("latin-1")
