"""A text read: a program, or all that is wrong with it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b

from tagwerk.actors.orders.logic.pfdl import limits
from tagwerk.actors.orders.logic.pfdl.blocks import blocks_of
from tagwerk.actors.orders.logic.pfdl.build import Draft, build
from tagwerk.actors.orders.logic.pfdl.check import TaskCheck
from tagwerk.actors.orders.logic.pfdl.lines import Scan, scan
from tagwerk.actors.orders.logic.pfdl.model import START_TASK, Call, Finding, Place, Program, statements_in
from tagwerk.actors.orders.logic.pfdl.structs import by_name, check_calls, check_structs


class Unsound(Exception):  # noqa: N818  of the text, not of ours
    """A text that is no program.

    Args:
        findings: All that is wrong with it, in the order of the text.
    """

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


def read(text: str) -> Program:
    """Read and check a text.

    Raises:
        Unsound: Something is wrong with it.
    """
    scanned = scan(text)
    findings = scanned.findings
    draft = build(blocks_of(scanned.lines, findings), scanned.dialect, findings)
    program = _checked(text, scanned, draft)
    if findings:
        raise Unsound(_told(findings))
    return program


def findings_in(text: str) -> tuple[Finding, ...]:
    """Give all that is wrong with a text; nothing if it is a program."""
    try:
        read(text)
    except Unsound as error:
        return error.findings
    return ()


def _checked(text: str, scanned: Scan, draft: Draft) -> Program:
    """Check what could be read. What is only missing because a line could not be read is not told."""
    findings = scanned.findings
    lines = [finding.place.line for finding in findings]
    bad = sorted(lines)
    unread = {name for name, span in draft.spans.items() if bisect_left(bad, span.start) < bisect_left(bad, span.stop)}
    structs = by_name(draft.structs, "struct", findings)
    tasks = by_name(draft.tasks, "task", findings)
    fields, sizes = check_structs({name: one for name, one in structs.items() if name not in unread}, findings, structs)
    if START_TASK not in tasks and not draft.is_headless and not (lines and not scanned.lines):
        message = f"there is no task {START_TASK}: nothing would begin"
        findings.append(Finding(Place(1, 1), message, f"`Task {START_TASK}`"))
    if not draft.is_headless:
        needs = {
            name: [one.name for one in statements_in(task.body) if isinstance(one, Call) and one.name in tasks]
            for name, task in tasks.items()
        }
        check_calls(needs, tasks, findings)
        check = TaskCheck(tasks, fields, sizes, structs, unread, scanned.dialect, findings)
        for task in tasks.values():
            check.run(task)
    digest = blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()
    return Program(structs, tasks, scanned.dialect, digest, fields)


def _told(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    ordered = sorted(findings, key=lambda finding: finding.place)
    more = len(ordered) - limits.TOLD_FINDINGS
    if more <= 0:
        return tuple(ordered)
    told = ordered[: limits.TOLD_FINDINGS]
    first = ordered[limits.TOLD_FINDINGS].place
    return (*told, Finding(first, f"{more} more errors from here on", "those above mended first"))
