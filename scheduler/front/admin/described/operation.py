"""What is said of one route: parameters, body and answers, each with its type and an example. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of the query, one header, or what a part of the path may be."""

    name: str
    about: str
    type: Any = str
    where: Literal["query", "header", "path"] = "query"
    required: bool = False
    #: It may stand several times.
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is sent: a JSON document of `type`, or text of other media types."""

    about: str
    type: Any = None
    example: Any = None
    #: Media types beside JSON, whose bodies are text.
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What comes back with one status."""

    about: str
    type: Any = None
    example: Any = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    summary: str
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    #: Refusals beside those that every route may give, as status -> when.
    refusals: Mapping[int, str] = field(default_factory=dict)
