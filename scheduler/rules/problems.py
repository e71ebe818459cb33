"""What can be wrong with a rule document, and how that is told.

Owns the refusals of SEMANTICS.md 1.1 and their codes on the wire. Every document is read to its end: all
problems come at once, at most 20.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from workers.errors import ConfigError, FerrymanError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.rules.listable.access import BucketAccess
    from scheduler.rules.model import Owner

#: More problems than this are counted, not listed.
MAX_PROBLEMS = 20
#: The highest limit of any list of a rule; of longer ones only so much is read.
MAX_LIST = 100
#: Warnings beyond this are dropped: a document of a megabyte could have tens of thousands.
MAX_WARNINGS = 100


class ProblemKind(StrEnum):
    """Why a document is refused (1.1), or `warning`, which never refuses."""

    BAD_XML = "bad_xml"
    BAD_YAML = "bad_yaml"
    TOO_LARGE = "too_large"
    UNKNOWN_ELEMENT = "unknown_element"
    MISSING_FIELD = "missing_field"
    BAD_VALUE = "bad_value"
    TOO_MANY = "too_many"
    CONFLICT = "conflict"
    UNSAFE_ORIGIN = "unsafe_origin"
    UNSUPPORTED = "unsupported"
    WARNING = "warning"

    @property
    def code(self) -> str:
        """The error code of the vendors' APIs."""
        if self in {ProblemKind.BAD_XML, ProblemKind.UNKNOWN_ELEMENT, ProblemKind.MISSING_FIELD}:
            return "MalformedXML"
        if self is ProblemKind.TOO_LARGE:
            return "EntityTooLarge"
        if self is ProblemKind.UNSUPPORTED:
            return "NotImplemented"
        return "InvalidArgument"

    @property
    def http_status(self) -> int:
        """501 for what Ferryman does not have, else 400."""
        return 501 if self is ProblemKind.UNSUPPORTED else 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding: where (path in the document's own names, 1-based line or 0), of what kind, and what."""

    path: str
    line: int = 0
    kind: ProblemKind
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self._told}"

    def to_json(self) -> dict[str, str | int]:
        """As plain values, for the API and `--json`; `line` is 0 where there is none."""
        return {"path": self.path, "line": self.line, "kind": self.kind.value, "message": self.message}

    def of_file(self, name: str) -> str:
        """The same as `name:line: …`, as compilers and the settings write it."""
        place = f"{name}:{self.line}" if self.line else name
        return f"{place}: {self._told}"

    @property
    def _told(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


#: Order in which one code is chosen for a document with several problems.
_BY_WEIGHT = ("EntityTooLarge", "MalformedXML", "InvalidArgument", "NotImplemented")


class DocumentError(ConfigError):
    """A document was refused; the rule set in force has not changed.

    `problems` are all that were found (at most 20), `more` counts those beyond. `code` and `http_status`
    are what the vendors' APIs answer: the most basic of the problems decides.
    """

    def __init__(self, problems: Sequence[Problem], *, more: int = 0, file: str = "") -> None:
        self.problems = tuple(problems[:MAX_PROBLEMS])
        self.more = more + len(problems) - len(self.problems)
        lines = [problem.of_file(file) if file else str(problem) for problem in self.problems]
        if self.more:
            lines.append(f"and {self.more} more")
        super().__init__("\n".join(lines))

    def of_file(self, name: str) -> DocumentError:
        """The same refusal, with the name of the file before every problem."""
        return DocumentError(self.problems, more=self.more, file=name)

    @property
    def code(self) -> str:
        """The error code on the wire."""
        return min((problem.kind.code for problem in self.problems), key=_BY_WEIGHT.index)

    @property
    def http_status(self) -> int:
        """501 when nothing but the unsupported was found, else 400."""
        return 501 if self.code == "NotImplemented" else 400


class NotExpressible(FerrymanError):
    """A rule set has fields that a format does not (W12): `fields` as `rule: canonical.path`."""

    def __init__(self, fields: Sequence[str], *, target: str) -> None:
        self.fields = tuple(fields)
        self.target = target
        super().__init__(f"not expressible as {target}: {', '.join(self.fields)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What reading a document depends on, beside the document."""

    #: Bucket the rule set is for.
    bucket: str = ""
    #: Hosts of a file may be loopback or private, those of the API may not (B11).
    owner: Owner = "api"
    #: Names by which clients reach us: an origin of that name is a loop.
    public_hosts: tuple[str, ...] = ()
    #: The `Host` of the request that carries the document: the same origin is a warning (section 9).
    request_host: str = ""
    #: CIDRs that may be named beyond public addresses.
    allow_networks: tuple[str, ...] = ()
    #: Access key id by credential name; None when the configuration is not at hand.
    credentials: Mapping[str, str | None] | None = None
    #: Names of those that sign requests to buckets (`s3v4`); None when the configuration is not at hand.
    bucket_credentials: frozenset[str] | None = None
    #: What is known of the buckets behind these; None where the bucket does not list what is in them.
    union: Mapping[str, BucketAccess] | None = None
    #: D9: ignore a redirect code of a Mirror rule, with a warning.
    redirect_code_with_mirror: bool = False
    #: Unknown elements are refused; else they are warnings.
    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something stands in a document."""

    path: str
    line: int = 0


@dataclass(slots=True)
class Findings:
    """Collects problems and warnings while a document is read."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    more: int = 0

    def add(self, place: Place, kind: ProblemKind, message: str) -> None:
        """Record a finding; a warning goes to the warnings."""
        problem = Problem(path=place.path, line=place.line, kind=kind, message=message)
        if kind is ProblemKind.WARNING:
            if len(self.warnings) < MAX_WARNINGS and problem not in self.warnings:
                self.warnings.append(problem)
        elif self.full:
            self.more += 1
        elif problem not in self.problems:
            self.problems.append(problem)

    @property
    def full(self) -> bool:
        """Whether further problems are only counted."""
        return len(self.problems) >= MAX_PROBLEMS

    def warn(self, place: Place, message: str) -> None:
        """Record a warning."""
        self.add(place, ProblemKind.WARNING, message)

    def raise_any(self) -> None:
        """End the reading when there are problems.

        Raises:
            DocumentError: with all of them, in the order of the document where lines are known.
        """
        if self.problems:
            raise DocumentError(sorted(self.problems, key=lambda problem: problem.line), more=self.more)
