"""Which format a manifest has, told from its first lines and its name. PURE.

Owns the decision, and the right to make none: a list that is read as the wrong format gives wrong keys
without a word, so where more than one format fits, the candidates are named and somebody says which.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

import orjson

from scheduler.scan.inventory.lines import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

#: `size mtime path`, as `find -printf '%s %T@ %P\\0'` prints it.
FIND_RECORD = re.compile(rb"(\d+) (-?\d+(?:\.\d+)?) (.+)", re.DOTALL)
#: Lines in which a header may stand behind a title.
_HEADER_LINES = 10
_MARKUP = ("<!doctype", "<html", "<?xml", "<rss", "<feed", "<urlset", "<sitemapindex", "<head", "<body")
_URL = ("http://", "https://")
_FIND = "find . -type f -printf '%s %T@ %P\\0' cannot break"
#: Sizes to the right of nine places, then the path.
_RCLONE_LS = re.compile(r"(?= *\d).{9}\d* \S")
#: What other tools print, and what to do instead.
_OTHERS = (
    (re.compile(r"[0-9a-fA-F]{32,128} [ *]\S"), "md5sum or sha256sum", "write CSV with the header key,md5"),
    (re.compile(r"\d{4}-\d\d-\d\d [\d:]{8} +\d+ \S"), "`aws s3 ls`", "scan that bucket: --source bucket=…"),
    (re.compile(r" *\d+ \d{4}-\d\d-\d\d \d\d:\d\d:"), "`rclone lsl`", "rclone lsf, --source rclone_lsf=…"),
    (re.compile(r"total \d|[-dl][rwxsStT-]{9}[.+@]? +\d+ \S"), "`ls -l`", _FIND),
    (re.compile(r"[-dl][rwxsStT-]{9} \S+/\S+ +\d+ \d{4}-\d\d-\d\d "), "`tar -tv`", _FIND),
    (re.compile(r"\[\d{4}-\d\d-\d\d [\d:]{8} \w+\] +[\d.]+ ?[KMGTPE]?i?B "), "`mc ls`", "--source bucket=…"),
    (re.compile(r"TOTAL: \d| *\d+ +\d{4}-\d\d-\d\dT[\d:]{8}Z +gs://"), "`gsutil ls -l`", "--source bucket=…"),
    (re.compile(r" *\d+ +\d+ +[-dl][rwxsStT-]{9} "), "`find -ls`", _FIND),
    (re.compile(r"[\d.]+[KMGTPE]?\t\S"), "`du -a`", _FIND),
    (
        re.compile(r"(?:s3|gs|oss|cos|cosn|az|ftp|sftp|file)://\S"),
        "URLs that are not HTTP",
        "cut scheme and bucket",
    ),
    (re.compile(r"\d+ -?\d+(?:\.\d+)? \S"), "size, time and path in lines", _FIND),
)


def detect(lines: Sequence[str], name: str) -> str:
    """The format that the first lines, or else the file name, speak for.

    Raises:
        ValueError: it is no list, or more than one format fits.
    """
    filled = [line.rstrip("\r\n") for line in lines if line.strip()]
    by_name = name.removesuffix(".gz").lower()
    if not filled:
        return "csv" if by_name.endswith(".csv") else "plain"
    first = filled[0].strip()
    if first == "[" or first.startswith(("[{", '["')):
        msg = "a JSON array; one object a line is expected: jq -c '.[]'"
        raise ValueError(msg)
    if first.lower().startswith(_MARKUP):
        msg = f"HTML or XML ({first[:40]!r}); a list is expected. A sitemap is read by --source sitemap=URL"
        raise ValueError(msg)
    if first.startswith("TsvHttpData-1.0"):
        return "tsv"
    if _is_object(first) or all(line.lstrip().startswith("{") for line in filled):
        return "jsonl"
    if by_name.endswith(".csv") or rows.separator(first) is not None:
        return "csv"
    return _lines(filled)


def _lines(filled: list[str]) -> str:
    """The format of lines that no header and no name speaks for."""
    if any(map(_is_object, filled)):
        _unsure("jsonl", "plain", why="some lines are JSON objects, the first one is not")
    if any(map(rows.is_header, filled[1:_HEADER_LINES])):
        _unsure("csv", "plain", why="a header stands behind other lines")
    if len(filled) > 1 and rows.is_key_column(filled[0]):
        _unsure("csv", "plain", why=f"the first line {filled[0]!r} may be a header or a key")
    for separator in rows.SEPARATORS:
        if all(_sized(line.split(separator)) for line in filled):
            _unsure("csv", "plain", why=f"a whole number stands behind {separator!r} in every line")
    for form, what, instead in _OTHERS:
        if all(map(form.match, filled)):
            msg = f"this looks like {what}: {instead}; if these are keys, say so: --format plain"
            raise ValueError(msg)
    if all(map(_RCLONE_LS.match, filled)) and any(line.startswith("  ") for line in filled):
        msg = "this looks like `rclone ls`: --source rclone_lsf=…; if these are keys, say so: --format plain"
        raise ValueError(msg)
    if filled[0].startswith(_URL):
        return _urls(filled)
    return "plain"


def _urls(filled: list[str]) -> str:
    """Whether URLs with white space are two columns, or names with spaces in them."""
    spaced = [line.strip() for line in filled if len(line.split(None, 1)) > 1]
    columns = [line.split(None, 1)[0].endswith("/") or "\t" in line for line in spaced]
    if not any(columns):
        if spaced and len(spaced) == len(filled):
            _unsure(
                "plain", "httplist", why="every line has white space: in the name, or between two columns"
            )
        return "plain"
    if not all(columns):
        _unsure("httplist", "plain", why="some lines look like two columns, others like names with spaces")
    return "httplist"


def _unsure(*candidates: str, why: str) -> NoReturn:
    which = " or ".join(candidates)
    msg = f"not sure what this is ({why}): say which format it has, {which} (--format, or `format` beside it)"
    raise ValueError(msg)


def _is_object(line: str) -> bool:
    line = line.strip()
    if not (line.startswith("{") and line.endswith("}")):
        return False
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _sized(cells: list[str]) -> bool:
    return len(cells) > 1 and cells[1].strip().strip('"').isdecimal()
