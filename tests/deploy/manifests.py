"""Policies over each overlay, and the proof that each of them finds what it is there to find.

    manifests.py OVERLAY=FILE...        rendered manifests, as `dev=/tmp/dev.yaml`

DAYBOOK_BIN is the server. The last line says how many checks passed and failed.
"""

import copy
import sys
from pathlib import Path

import facts
import mutations
import policy
import yaml

passed = failed = 0


def check(name, wrong):
    """A check that passes if there is nothing wrong."""
    global passed, failed
    if not wrong:
        passed += 1
        print(f"ok      {name}")
        return
    failed += 1
    print(f"FAILED  {name}")
    for each in wrong:
        print(f"        {each}")


def found(name, overlay):
    """What a policy finds. One that cannot make sense of a manifest has found something, too."""
    try:
        return list(policy.POLICIES[name](overlay))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        return [f"makes no sense: {error!r}"]


def main():
    overlays = {}
    for argument in sys.argv[1:]:
        name, file = argument.split("=")
        overlays[name] = list(yaml.safe_load_all(Path(file).read_text()))
    with facts.servers() as servers:
        for name, docs in overlays.items():
            for each in policy.POLICIES:
                wrong = found(each, policy.Overlay(name, docs, servers))
                check(f"{name}: {policy.about(each)}", wrong)
        for rule, where, what, change in mutations.TABLE:
            docs = copy.deepcopy(overlays[where])
            change(mutations.Editor(docs))
            if docs == overlays[where]:
                check(f"{rule} notices: {what}", ["the manifest was not changed"])
                continue
            wrong = found(rule, policy.Overlay(where, docs, servers))
            # What makes no sense was not found by the policy, but by chance.
            missed = not wrong or any(each.startswith("makes no sense") for each in wrong)
            check(f"{rule} notices: {what}", wrong or ["nothing"] if missed else [])
    untested = policy.POLICIES.keys() - {row[0] for row in mutations.TABLE}
    check("each policy was seen to find something", sorted(untested))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
