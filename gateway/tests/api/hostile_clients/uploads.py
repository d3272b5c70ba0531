"""Sends bodies to a server that answers before it has read them, and checks each answer.

python uploads.py URL BYTES COUNT ANSWER
"""

import sys

import httpx

url, size, count, expected = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

for versions in ({"http1": True, "http2": False}, {"http1": False, "http2": True}):
    with httpx.Client(timeout=60, trust_env=False, **versions) as client:
        for _ in range(count):
            answer = client.post(url, content=b"\7" * size)
            got = (answer.status_code, answer.text)
            assert got == (200, expected), (answer.http_version, got)
