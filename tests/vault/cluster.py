"""Plays the part of Kubernetes that Vault asks: whose token is this? Believes the one in the file.

    cluster.py PORT FILE
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, FILE = int(sys.argv[1]), Path(sys.argv[2])
USER = {"username": "system:serviceaccount:bank:daybook", "uid": "7"}


class Cluster(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = FILE.exists() and review["spec"]["token"] == FILE.read_text().strip()
        review["status"] = {"authenticated": True, "user": USER} if known else {"error": "unknown"}
        body = json.dumps(review).encode()
        self.send_response(201 if self.path.endswith("/tokenreviews") else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Cluster).serve_forever()
