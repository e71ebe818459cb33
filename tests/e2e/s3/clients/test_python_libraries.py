"""boto3, minio-py and s3fs do to a bucket of the gateway what they do to the store, and see the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.s3.clients import contents

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]
PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.parametrize("library", ["boto3", "minio", "s3fs"])
def test_a_program_learns_the_same_of_both_and_leaves_the_same(sides_of, library):
    sides = sides_of(library)

    def facts(side):
        code, text = side.output("python", str(PROGRAMS / f"with_{library}.py"), side.bucket)
        assert code == 0, f"{side.name}:\n{text[-4000:]}"
        return json.loads(text[text.index("[\n") :])

    direct, through = sides
    facts_of_both = [facts(side) for side in sides]
    assert len(facts_of_both[0]) > 10
    for one, other in zip(*facts_of_both, strict=True):
        assert other == one
    assert contents(direct, through.bucket) == contents(direct, direct.bucket)
