"""Make failing assertions in the shared tests as readable as those in test files."""

import pytest

pytest.register_assert_rewrite("dots_conformance.engine_suite", "dots_conformance.closeness")
