"""Writes the dashboards in the directory above this one.

    python3 server/deploy/grafana/make            writes *.json
    python3 server/deploy/grafana/make --check    says whether they are what would be written

Change a dashboard here, not in Grafana: an export has a thousand lines that nobody can review.

    overview storage ledger readside    rows of panels, one file a dashboard
    panels                              what a panel is, as Grafana's JSON has it
"""

import json
import sys
from pathlib import Path

import ledger
import overview
import readside
import storage
from panels import SOURCE, WIDTH


def laid_out(rows):
    """Panels with their places: rows below one another, panels side by side."""
    panels, y = [], 0
    for title, members in rows.items():
        panels.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
            }
        )
        y, x, height = y + 1, 0, 0
        for member in members:
            member = dict(member)
            width, tall = member.pop("size")
            if x + width > WIDTH:
                x, y, height = 0, y + height, 0
            panels.append(member | {"gridPos": {"x": x, "y": y, "w": width, "h": tall}})
            x, height = x + width, max(height, tall)
        y += height
    return [panel | {"id": number} for number, panel in enumerate(panels, 1)]


def variables():
    query = "label_values(daybook_build_info, instance)"
    return [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
            "refresh": 1,
            "regex": "",
        },
        {
            "name": "instance",
            "label": "Server",
            "type": "query",
            "datasource": SOURCE,
            "definition": query,
            "query": {"query": query, "refId": "Servers"},
            "current": {"text": ["All"], "value": ["$__all"]},
            "includeAll": True,
            "multi": True,
            "allValue": ".+",
            "refresh": 2,
            "sort": 1,
            "hide": 0,
            "regex": "",
        },
    ]


def dashboard(name, title, room):
    link = {
        "title": "Daybook",
        "type": "dashboards",
        "tags": ["daybook"],
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }
    return {
        "uid": f"daybook-{name}",
        "title": f"Daybook: {title}",
        "description": room.__doc__,
        "tags": ["daybook"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "refresh": "30s",
        "weekStart": "",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "links": [link],
        "annotations": {"list": []},
        "templating": {"list": variables()},
        "panels": laid_out(room.ROWS),
    }


DASHBOARDS = {
    "overview": ("overview", overview),
    "storage": ("storage", storage),
    "ledger": ("ledger and sagas", ledger),
    "readside": ("read side", readside),
}


def main():
    directory, stale = Path(__file__).resolve().parents[1], []
    for name, (title, room) in DASHBOARDS.items():
        text = json.dumps(dashboard(name, title, room), indent=2, ensure_ascii=False) + "\n"
        file = directory / f"{name}.json"
        if "--check" in sys.argv[1:]:
            if not file.exists() or file.read_text() != text:
                stale.append(file.name)
        else:
            file.write_text(text)
    if stale:
        print(f"{', '.join(stale)}: not what grafana/make writes; run it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
