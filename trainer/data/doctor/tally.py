"""What a check has found so far: counts of everything, and the first places of each kind."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trainer.data.problems import KINDS, Finding
from trainer.data.samples import Place

KEPT = 20  # places of each kind that are kept
MOST_CLASSES = 10_000  # that are counted; more are no classes
COUNTERS = ("dropped", "counts", "formats", "classes")


@dataclass
class Tally:
    """Counts of rows and findings; those of parts of a file add up to those of the whole."""

    rows: int = 0
    usable: int = 0
    pictures: int = 0  # of the usable rows, as often as they are named
    dropped: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def find(self, finding: Finding) -> bool:
        """Count a finding; True where its place was kept."""
        self.counts[finding.kind] += 1
        if self.counts[finding.kind] > KEPT:
            return False
        self.findings.append(finding)
        return True

    def drop(self, finding: Finding) -> bool:
        """Count a row that cannot be learned from; True where its place was kept."""
        self.dropped[finding.kind] += 1
        return self.find(finding)

    def classify(self, label: str) -> None:
        """Count a picture of a class."""
        if label in self.classes or len(self.classes) < MOST_CLASSES:
            self.classes[label] += 1

    def add(self, other: Tally, before: int) -> None:
        """Count what was found in a later part of a file, before which so many lines lie."""
        self.rows += other.rows
        self.usable += other.usable
        self.pictures += other.pictures
        self.dropped += other.dropped
        self.formats += other.formats
        self.classes += other.classes
        kept = Counter(finding.kind for finding in self.findings)
        for finding in other.findings:
            if kept[finding.kind] < KEPT:
                kept[finding.kind] += 1
                place = finding.place
                line = place.line + before if place.line else None
                self.findings.append(replace(finding, place=Place(place.file, place.row + before, line)))
        self.counts += other.counts

    def to_json(self) -> dict[str, Any]:
        """The tally as plain values."""
        counters = {name: dict(getattr(self, name)) for name in COUNTERS}
        findings = [asdict(finding) for finding in self.findings]
        counts = {name: getattr(self, name) for name in ("rows", "usable", "pictures")}
        return {**counts, "findings": findings, **counters}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Tally:
        """The tally that was written by `to_json`."""
        findings = [Finding(**{**each, "place": Place(**each["place"])}) for each in value["findings"]]
        counters = {name: Counter(value[name]) for name in COUNTERS}
        return Tally(value["rows"], value["usable"], value["pictures"], findings=findings, **counters)

    @property
    def errors(self) -> int:
        """How many findings keep a row from being learned."""
        return sum(count for kind, count in self.counts.items() if KINDS[kind].weight == "error")
