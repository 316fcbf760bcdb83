"""`waypost verify`: check every byte of the store, and say what was found and where."""

from __future__ import annotations

from collections import Counter

import click

from waypost.cli import messages
from waypost.cli.invocation import Invocation, options, reading
from waypost.cli.text import count, size
from waypost.errors import DocumentDamaged, StoreUnavailable
from waypost.store.reports import Finding, Verification

_SHOWN = 200
_SEVERITIES = ("damage", "torn tail", "unreadable", "leftover", "note")
_STYLES = {"damage": "bold red", "torn tail": "bold red", "unreadable": "bold red", "leftover": "yellow", "note": "dim"}


@click.command()
@options
@click.pass_obj
def verify(invocation: Invocation) -> int:
    """Check every byte of the store: checksums, links, versions, sums. Nothing is changed.

    Ends with 0 when nothing that the store holds or speaks of is amiss, with 6 when something is, and with 5
    when a file may not be read, or only by another release. What left no trace it cannot miss: a workflow of which no
    file is there, or the newest commits where a log is an older copy.
    """
    with reading(invocation) as store:
        report = store.store.verify()
    if invocation.json:
        messages.print_json({**_counts(report), "findings": [found._asdict() for found in report.findings]})
    else:
        _show(report)
    if report.sound:
        return 0
    return DocumentDamaged.exit_status if _is_damaged(report) else StoreUnavailable.exit_status


def _is_damaged(report: Verification) -> bool:
    return any(found.severity in ("damage", "torn tail") for found in report.findings)


def _counts(report: Verification) -> dict[str, object]:
    found = Counter(finding.severity for finding in report.findings)
    return {
        "location": report.location,
        "sound": report.sound,
        "documents": report.documents,
        "frames": report.frames,
        "commits": report.commits,
        "snapshots": report.snapshots,
        "size_bytes": report.size_bytes,
        "finding_counts": {severity: found[severity] for severity in _SEVERITIES},
    }


def _show(report: Verification) -> None:
    from waypost.cli import screen

    looked_at = f"{count(report.documents, 'document')}, {count(report.commits, 'commit')}, "
    if report.frames:
        looked_at += f"{count(report.snapshots, 'snapshot')}, {count(report.frames, 'frame')}, "
    looked_at += size(report.size_bytes)
    screen.show(screen.text((report.location, "dim")), screen.text(looked_at))
    findings = sorted(report.findings, key=lambda finding: _SEVERITIES.index(finding.severity))
    if findings:
        rows = [_row(report, finding) for finding in findings[:_SHOWN]]
        screen.show(screen.blank(), screen.table(("", "file", ">offset", "what"), rows))
    if len(findings) > _SHOWN:
        screen.show(screen.text(f"… and {len(findings) - _SHOWN:,} more: --json has all"))
    verdict = ("✓ sound: nothing that was acknowledged is amiss", "green")
    if not report.sound and not _is_damaged(report):
        verdict = ("✗ not all could be read: verify it as somebody who may, with a release that can", "bold red")
    elif not report.sound:
        verdict = ("✗ not sound: waypost store repair --dry-run says what can be kept", "bold red")
    screen.show(screen.blank(), screen.text(verdict))


def _row(report: Verification, finding: Finding) -> list[object]:
    from waypost.cli import screen

    offset = "" if finding.offset is None else f"{finding.offset:,}"
    file = finding.file.removeprefix(report.location + "/")
    return [screen.text((finding.severity, _STYLES[finding.severity])), file, offset, finding.text]
