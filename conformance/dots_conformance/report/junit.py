"""The report as JUnit XML, which continuous integration shows as a list of tests."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from dots.pages.environment import writable
from dots_conformance.bundle import REFUSED
from dots_conformance.closeness import FAIL, ILL, PASS, TensorVerdict
from dots_conformance.comparison import KNOWN, CaseVerdict, Comparison
from dots_conformance.ledger import Entry
from dots_conformance.report.summary import Column, columns, group_of, reason, recording_seconds
from dots_conformance.report.wording import index_text, number_text, was_compared


def junit_report(comparison: Comparison) -> str:
    """Return a comparison as JUnit XML.

    An engine is a suite, a case is a test; what is excused, ill-conditioned or refused counts as
    skipped, what ended without arrays as an error. A stale ledger entry is a failing test.
    """
    root = Element("testsuites", name="dots conformance")
    for column in columns(comparison):
        _suite(root, column)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", f"{sum(recording_seconds(column) for column in columns(comparison)):.3f}")
    ElementTree.indent(root)
    return "<?xml version='1.0' encoding='UTF-8'?>\n" + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(root: Element, column: Column) -> None:
    manifest = column.engine.manifest
    suite = SubElement(root, "testsuite", name=writable(column.label))
    properties = SubElement(suite, "properties")
    facts = {"backend": manifest.backend, "device": manifest.device, "precision": manifest.precision}
    for name, value in {**facts, "suite": manifest.suite, **manifest.versions, **manifest.environment}.items():
        SubElement(properties, "property", name=writable(name), value=writable(value))
    for case in column.engine.cases.values():
        _case(suite, column, case)
    for entry in column.engine.stale:
        _stale(suite, column, entry)
    tests = suite.findall("testcase")
    suite.set("tests", str(len(tests)))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(sum(test.find(tag) is not None for test in tests)))
    suite.set("time", f"{recording_seconds(column):.3f}")


def _case(suite: Element, column: Column, case: CaseVerdict) -> None:
    test = SubElement(
        suite,
        "testcase",
        classname=writable(f"{column.label}.{group_of(case.case)}"),
        name=writable(case.case),
        time=f"{case.seconds:.3f}",
    )
    if case.verdict == PASS:
        return
    said = writable(reason(case))
    if case.verdict in (KNOWN, ILL, REFUSED):
        SubElement(test, "skipped", message=f"{case.verdict}: {said}" if said else case.verdict)
        return
    fails = case.verdict == FAIL
    message = writable(case.message) or case.verdict
    ending = SubElement(test, "failure" if fails else "error", type=case.verdict, message=message)
    ending.text = writable("\n".join([case.message, *map(_tensor_line, case.tensors)]))


def _tensor_line(tensor: TensorVerdict) -> str:
    line = f"{tensor.key}: {tensor.verdict}"
    if was_compared(tensor):
        line += (
            f", {number_text(tensor.multiple)} times what is allowed, relative error {number_text(tensor.relative)}, "
            f"at ({index_text(tensor)}) {number_text(tensor.value, 9)} instead of {number_text(tensor.expected, 9)}"
        )
    return f"{line}; {tensor.reason}" if tensor.reason else line


def _stale(suite: Element, column: Column, entry: Entry) -> None:
    name = f"ledger entry for {entry.package} {entry.versions}, {entry.cases}, {entry.tensors}"
    test = SubElement(
        suite, "testcase", classname=writable(f"{column.label}.ledger"), name=writable(name), time="0.000"
    )
    message = f"it excuses nothing any more and must go; it says: {entry.reason}"
    SubElement(test, "failure", type="stale", message=writable(message))
