"""The admin API as a client of it sees it, and readers for what it exports: CSV, XLSX and OpenMetrics."""

import csv
import io
import re
import zipfile
from urllib.parse import urlencode
from xml.etree import ElementTree

from harness import http1, secrets
from harness.polling import until


class Admin:
    """The admin side of one gateway that was started with the `system` of `with_token`."""

    def __init__(self, gateway, token):
        self.gateway = gateway
        self.token = token

    def get(self, path, **parameters):
        """A GET with the token; a list as a parameter is given several times."""
        target = f"{path}?{urlencode(parameters, doseq=True)}" if parameters else path
        return http1.call(self.gateway.base_url, "GET", target, {"Authorization": f"Bearer {self.token}"})

    def json(self, path, **parameters):
        """The document at `path`, which must be there."""
        answer = self.get(path, **parameters)
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer.json()

    def statistics(self, report, **parameters):
        return self.json(f"/admin/api/v1/statistics/{report}", **parameters)

    def settled(self, calls, within=10):
        """The summary, once the database has this many calls."""

        def summary():
            found = self.statistics("summary", percentiles="false")["totals"]
            return found if found["calls"] >= calls else None

        found = until(summary, within, f"{calls} calls in the statistics")
        assert found["calls"] == calls
        return found

    def records(self, limit=1000, **parameters):
        """All records, a page after the other."""
        cursor = {}
        while True:
            page = self.json("/admin/api/v1/records", limit=limit, **parameters, **cursor)
            assert len(page["records"]) <= limit
            yield from page["records"]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}


def with_token(**system):
    """A token, and the `system` section of a gateway that knows it."""
    token = secrets.canary("admin")
    return token, {"admin": {"token": token}, **system}


def csv_rows(answer):
    """An export as dictionaries."""
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/csv"), answer.body
    return list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"), newline="")))


SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def xlsx_rows(answer):
    """The first sheet of a workbook as dictionaries of texts, as a strict reader sees it."""
    assert answer.status == 200, answer.body
    with zipfile.ZipFile(io.BytesIO(answer.body)) as book:
        assert book.testzip() is None
        parts = {name: book.read(name) for name in book.namelist()}
    for name, content in parts.items():
        if name.endswith((".xml", ".rels")):
            ElementTree.fromstring(content)
    shared = []
    if "xl/sharedStrings.xml" in parts:
        items = ElementTree.fromstring(parts["xl/sharedStrings.xml"]).iter(f"{SHEET}si")
        shared = ["".join(text.text or "" for text in item.iter(f"{SHEET}t")) for item in items]
    rows = [
        {column(cell.get("r", ""), place): cell_text(cell, shared) for place, cell in enumerate(row.iter(f"{SHEET}c"))}
        for row in ElementTree.fromstring(parts["xl/worksheets/sheet1.xml"]).iter(f"{SHEET}row")
    ]
    names, *rest = rows
    return [{name: row.get(place, "") for place, name in names.items()} for row in rest]


def column(reference, place):
    """The number of the column that `AB12` names; cells without a name count on."""
    letters = re.match("[A-Z]*", reference).group()
    if not letters:
        return place
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def cell_text(cell, shared):
    value = cell.find(f"{SHEET}v")
    if cell.get("t") == "s":
        return shared[int(value.text)]
    if cell.get("t") == "inlineStr":
        return "".join(text.text or "" for text in cell.iter(f"{SHEET}t"))
    return "" if value is None else value.text or ""


SAMPLE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)(?: \S+)?$')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\.)*)"')
SUFFIXES = {
    "counter": ("_total", "_created"),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
}


class Metrics:
    """An OpenMetrics page (https://prometheus.io/docs/specs/om/open_metrics_spec/), read strictly."""

    def __init__(self, text):
        assert text.endswith("# EOF\n") and text.count("# EOF") == 1
        self.samples = []
        self.types = {}
        family = None
        for line in text.removesuffix("# EOF\n").splitlines():
            if line.startswith("# "):
                word, name, rest = (line[2:].split(" ", 2) + [""])[:3]
                assert word in ("TYPE", "HELP", "UNIT"), line
                if word == "TYPE":
                    assert name not in self.types, f"{name} is there twice"
                    self.types[name] = rest
                family = name
                continue
            match = SAMPLE.match(line)
            assert match, line
            name, labels, value = match.group(1), dict(LABEL.findall(match.group(2) or "")), float(match.group(3))
            assert family in self.types, line
            assert name.removeprefix(family) in SUFFIXES[self.types[family]] and name.startswith(family), line
            self.samples.append((name, labels, value))
        keys = [(name, tuple(sorted(labels.items()))) for name, labels, _ in self.samples]
        assert len(keys) == len(set(keys)), "a series is there twice"

    def sum(self, wanted, **labels):
        """The sum of all series of this name with these labels."""
        found = [value for name, have, value in self.samples if name == wanted and labels.items() <= have.items()]
        assert found or labels, f"no {wanted}"
        return sum(found)

    def assert_histograms_are_sound(self):
        """Buckets rise, and the last is the count."""
        buckets = {}
        for name, labels, value in self.samples:
            if name.endswith("_bucket"):
                rest = tuple(sorted((key, text) for key, text in labels.items() if key != "le"))
                buckets.setdefault((name.removesuffix("_bucket"), rest), []).append((float(labels["le"]), value))
        assert buckets
        for (name, labels), steps in buckets.items():
            assert steps == sorted(steps) and [value for _, value in steps] == sorted(value for _, value in steps)
            assert steps[-1][0] == float("inf") and steps[-1][1] == self.sum(f"{name}_count", **dict(labels))
