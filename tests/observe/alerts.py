"""Whether each alert is tested to fire, and tested not to; says which is not.

No YAML library comes with Python, and these files are ours and regular: lines are enough.
"""

import re
import sys
from pathlib import Path

RULES = Path(__file__).parents[2] / "server/deploy/prometheus"


def tested(text):
    """The alerts of a test file, with the samples that each of its checks expects."""
    checks = {}
    for block in re.split(r"(?m)^  - name: ", text)[1:]:
        name = block.split("\n", 1)[0].strip()
        for check in block.split("- expr: ")[1:]:
            if f'alertname="{name}"' in check and 'alertstate="firing"' in check:
                checks.setdefault(name, []).append(check.count("- labels:"))
    return checks


def main():
    alerts = re.findall(r"(?m)^      - alert: (\w+)$", (RULES / "alerts.yml").read_text())
    checks = {}
    for file in sorted(RULES.glob("*_test.yml")):
        checks |= tested(file.read_text())
    wrong = [f"{name}: fires in no test" for name in alerts if not any(checks.get(name, []))]
    wrong += [f"{name}: is quiet in no test" for name in alerts if all(checks.get(name, [0]))]
    wrong += [f"{name}: tested, and no alert" for name in checks if name not in alerts]
    print("\n".join(wrong) or f"{len(alerts)} alerts")
    return 1 if wrong or not alerts else 0


if __name__ == "__main__":
    sys.exit(main())
