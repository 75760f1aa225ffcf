"""Make failing assertions in the shared modules as readable as those in test files."""

import pytest

pytest.register_assert_rewrite("suite", "closeness")
