"""The report that `validate` returns: findings by severity, readable in a terminal."""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["error", "warning", "info"]
"""`error`: a defect, reading it raises; `warning`: read, but perhaps not as meant; `info`: what was taken for what."""

_TITLES: Final = {"error": "Errors", "warning": "Warnings", "info": "Taken as"}
_SHOWN: Final = 25
"""Findings of one severity that are printed; `to_frame` has them all."""
_WIDTH: Final = 110


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found, in one or many cells.

    Parameters
    ----------
    severity
        `"error"`, `"warning"` or `"info"`.
    component
        The part of the record it is about, or `"file"`, `"group"`, `"name"`, `"genes"`, `"slide"`.
    problem
        What is the matter. Where the reasons of several cells differ in names and numbers only, that of the first.
    n_cells
        How many cells it is found in; 0 where it is about the file as a whole.
    examples
        Names (as in `obs_names`) of up to five of these cells.
    advice
        The way out.
    """

    severity: Severity
    component: str
    problem: str
    n_cells: int = 0
    examples: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """What `validate` found in a file.

    Parameters
    ----------
    path
        The file.
    n_cells
        How many cells it holds; 0 if it cannot be opened.
    findings
        Errors first, then warnings, then what the file was taken to be.
    """

    path: Path
    n_cells: int
    findings: tuple[Finding, ...]

    @property
    def has_defects(self) -> bool:
        """Whether there is any error; warnings are no defects."""
        return bool(self.of("error"))

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per finding: `severity`, `component`, `problem`, `n_cells`, `examples` (tuples), `advice`."""
        import pandas as pd

        columns = [field.name for field in fields(Finding)]
        return pd.DataFrame([asdict(finding) for finding in self.findings], columns=columns)

    def __repr__(self) -> str:
        """Return the report as text; one line when all is well."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        errors, warnings, infos = (self.of(severity) for severity in get_args(Severity))
        if not errors and not warnings:
            summary = infos[0].problem if infos else f"{self.n_cells:,} cells"
            yield f"{self.path.name}: No defects: {summary}."
            return
        kinds = _counted(len(errors), "kind") + " of defects" if errors else "No defects"
        yield f"{self.path.name}: {kinds}, {_counted(len(warnings), 'warning')}; {_counted(self.n_cells, 'cell')}."
        for findings in (errors, warnings, infos):
            yield from _section(findings)


def _section(findings: tuple[Finding, ...]) -> Iterator[str]:
    if not findings:
        return
    yield ""
    yield _TITLES[findings[0].severity]
    for finding in findings[:_SHOWN]:
        yield from _entry(finding)
    if len(findings) > _SHOWN:
        yield f"  … and {len(findings) - _SHOWN:,} more: see to_frame()"


def _entry(finding: Finding) -> Iterator[str]:
    named = "" if finding.severity == "info" else f"{finding.component}: "
    yield _filled(f"{named}{finding.problem}", "  ", "    ")
    if finding.n_cells and finding.severity != "info":
        shown = ", ".join(finding.examples)
        more = ", …" if finding.n_cells > len(finding.examples) else ""
        yield _filled(f"{_counted(finding.n_cells, 'cell')}: {shown}{more}", "    ", "      ")
    if finding.advice:
        yield _filled(f"→ {finding.advice}", "    ", "      ")


def _filled(text: str, first: str, rest: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _counted(n: int, word: str) -> str:
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"
