"""The structure of objects whose kinds Kubernetes itself does not have.

    schema.py FILE...        every such object of these files, against schemas/KIND.json

The schemas are written after the Go types and definitions of Litmus 3.17 and of the Prometheus
operator, and take in no more than is used here: what they do not name is a mistake until somebody
looked. Prints the kinds that were checked; exits 1 if something is wrong, or if a file has none.
"""

import json
import sys
from pathlib import Path

import jsonschema
import yaml

SCHEMAS = {file.stem: file for file in Path(__file__).parent.glob("schemas/*.json")}


def faults(doc):
    """What is wrong with an object of one of these kinds."""
    schema = json.loads(SCHEMAS[doc["kind"]].read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for error in validator.iter_errors(doc):
        where = "/".join(str(step) for step in error.absolute_path)
        yield f"{doc['kind']} {doc['metadata']['name']}: {where}: {error.message}"


def main():
    wrong, seen = [], {}
    for file in sys.argv[1:]:
        docs = [doc for doc in yaml.safe_load_all(Path(file).read_text()) if doc["kind"] in SCHEMAS]
        if not docs:
            wrong.append(f"{file}: nothing to check")
        for doc in docs:
            seen[doc["kind"]] = seen.get(doc["kind"], 0) + 1
            wrong += faults(doc)
    print(*wrong or [f"{count} {kind}" for kind, count in sorted(seen.items())], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
