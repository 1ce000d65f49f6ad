"""A bucket that lets nobody in, and takes down with which keys it was asked.

    bucket.py PORT FILE

Each line of FILE is the id of a key, as a request's signature (AWS4-HMAC-SHA256) names it.
"""

import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REFUSAL = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>AccessDenied</Code><Message>not you</Message></Error>"
)


class Bucket(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    def refuse(self):
        """Takes down who asks."""
        signed = self.headers.get("authorization", "")
        key = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/", signed)
        with Path(sys.argv[2]).open("a", encoding="utf-8") as file:
            file.write(f"{key[1] if key else 'nobody'}\n")
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(403)
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", str(len(REFUSAL)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(REFUSAL)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = refuse

    def log_message(self, format, *args):
        """Says nothing."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Bucket).serve_forever()
