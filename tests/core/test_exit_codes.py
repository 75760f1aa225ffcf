from __future__ import annotations

import pytest

from dots_core import errors


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("DotsError", 1),
        ("UsageError", 2),
        ("EngineMissing", 3),
        ("DataMissing", 4),
        ("CorruptFile", 5),
        ("NonFiniteLoss", 6),
    ],
)
def test_exit_codes(name, code):
    error = getattr(errors, name)
    assert issubclass(error, errors.DotsError)
    assert error.exit_code == code
