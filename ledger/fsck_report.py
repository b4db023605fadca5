"""What fsck reports."""

from dataclasses import asdict, dataclass, field
from typing import Any

MOST_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold: a stable code, where (leaf index, stream sequence or tree size), and what."""

    code: str
    index: int | None
    message: str


@dataclass(slots=True)
class Report:
    """What was checked and found; at most 1,000 findings are kept, all are counted."""

    tree_size: int = 0
    message_count: int = 0
    duplicate_count: int = 0
    refusal_count: int = 0
    erasure_count: int = 0
    checkpoint_count: int = 0
    cosignature_count: int = 0
    file_count: int = 0
    finding_count: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: str, message: str, *, index: int | None = None) -> None:
        """Note a finding."""
        self.finding_count += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(code, index, message))

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return asdict(self)
