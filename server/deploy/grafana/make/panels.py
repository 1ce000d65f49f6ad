"""What dashboards are made of: panels as Grafana's JSON has them, and the queries they ask.

A panel is given its title, what it means, its queries as pairs of PromQL and legend, and its unit.
"""

# Columns of Grafana's grid, and panels' widths and heights on it.
WIDTH = 24
SMALL, THIRD, QUARTER, HALF, FLAT = (4, 4), (8, 8), (6, 8), (12, 9), (12, 7)
# Every query looks at the servers that are chosen.
AT = 'instance=~"$instance"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"


def steps(*pairs):
    """Thresholds: the first colour holds from the lowest value on."""
    return {
        "mode": "absolute",
        "steps": [{"color": color, "value": at} for at, color in ((None, pairs[0]), *pairs[1:])],
    }


def mapped(words):
    """Texts and colours in place of numbers."""
    options = {
        str(value): {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


def target(index, query):
    """One query of a panel: (PromQL, legend)."""
    expression, legend = query
    return {
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "expr": " ".join(expression.split()),
        "legendFormat": legend,
        "editorMode": "code",
        "range": True,
        "instant": False,
    }


def panel(kind, title, about, queries, unit="short", size=THIRD, thresholds=None, **more):
    """Any panel; `more` are fields that some kinds of panels have, and the rest leave out."""
    defaults = {
        "unit": unit,
        "thresholds": thresholds or steps(GREEN),
        "mappings": more.get("mappings", []),
        "color": more.get("color", {"mode": "palette-classic"}),
        "custom": more.get("custom", {}),
    }
    theirs = {"decimals": "decimals", "min": "min", "max": "max", "no_value": "noValue"}
    defaults |= {theirs[name]: value for name, value in more.items() if name in theirs}
    return {
        "type": kind,
        "title": title,
        "description": " ".join(about.split()),
        "datasource": SOURCE,
        "targets": [target(index, query) for index, query in enumerate(queries)],
        "fieldConfig": {"defaults": defaults, "overrides": more.get("overrides", [])},
        "options": more.get("options", {}),
        "size": size,
    }


def lines(title, about, queries, unit="short", **more):
    """Curves over time, with their last and highest value in the legend."""
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 30 if more.get("stacked") else 8,
        "gradientMode": "opacity",
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if more.pop("stacked", False) else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if more.get("thresholds") else "off"},
        "axisSoftMin": 0,
    }
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, about, queries, unit, custom=custom, options=options, **more)


def number(title, about, query, unit="short", **more):
    """One number, coloured by its thresholds."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": more.pop("color_mode", "value"),
        "graphMode": more.pop("graph", "area"),
        "textMode": more.pop("text", "auto"),
        "justifyMode": "center",
        "orientation": "auto",
    }
    more.setdefault("size", SMALL)
    color = {"mode": "thresholds"}
    return panel("stat", title, about, [query], unit, options=options, color=color, **more)


def states(title, about, query, mappings, **more):
    """What state each thing was in, over time."""
    options = {
        "showValue": "auto",
        "rowHeight": 0.8,
        "mergeValues": True,
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    custom = {"fillOpacity": 75, "lineWidth": 0}
    color = {"mode": "thresholds"}
    return panel(
        "state-timeline",
        title,
        about,
        [query],
        mappings=mappings,
        options=options,
        custom=custom,
        color=color,
        **more,
    )


def heat(title, about, expression, **more):
    """How many took how long, over time."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Turbo",
            "steps": 64,
            "exponent": 0.5,
            "fill": "dark-orange",
        },
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": True},
        "legend": {"show": True},
        "filterValues": {"le": 1e-9},
    }
    made = panel("heatmap", title, about, [(expression, "{{le}}")], options=options, **more)
    made["targets"][0]["format"] = "heatmap"
    return made


def quantile(part, metric, by="", where=""):
    labels = f"{AT}, {where}" if where else AT
    by = f"le, {by}" if by else "le"
    buckets = f"rate({metric}_bucket{{{labels}}}[$__rate_interval])"
    return f"histogram_quantile({part}, sum by ({by}) ({buckets}))"


def rate(metric, by="", where=""):
    labels = f"{AT}, {where}" if where else AT
    return f"sum by ({by or 'instance'}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantiles(metric, *parts):
    return [(quantile(part, metric), f"p{part * 100:g}") for part in parts]


def of(metric, where=""):
    return f"{metric}{{{AT}, {where}}}" if where else f"{metric}{{{AT}}}"


def share(part, whole):
    return f"{part} / {whole}"


def ago(metric):
    """Seconds since the newest of the times that a gauge had; a restart forgets it, 0 is none."""
    return f"max(time() - (max_over_time({of(metric)}[14d]) > 0))"


LATENCY = steps(GREEN, (0.1, RED))
