"""The record file: one JSON line per finished call."""

import json

from harness.polling import until


class Records:
    """Reads `records.jsonl`, in the order in which the calls began."""

    def __init__(self, path):
        self.path = path

    def all(self):
        """Every record written so far. A half-written last line is left for later."""
        if not self.path.exists():
            return []
        complete, _, _ = self.path.read_text().rpartition("\n")
        records = [json.loads(line) for line in complete.splitlines() if line]
        return sorted(records, key=lambda record: record["id"])

    def wait_for(self, count, within=5):
        """All records, once there are `count` of them; more is an error too."""
        records = until(lambda: len(self.all()) >= count and self.all(), within, f"{count} records in {self.path.name}")
        assert len(records) == count, f"{len(records)} records for {count} calls: {records}"
        return records

    def one(self, within=5):
        """The only record there is."""
        return self.wait_for(1, within)[0]

    def of(self, request_id, within=5):
        """The only record of the call that was answered with this `x-request-id`."""
        found = until(
            lambda: [record for record in self.all() if record["id"] == request_id], within, f"record {request_id}"
        )
        assert len(found) == 1, f"{len(found)} records of one call"
        return found[0]
