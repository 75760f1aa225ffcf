"""The engine suite, on the engine that ``pytest --dots-backend`` names (`dots_conformance.pytest_plugin`)."""

from __future__ import annotations

from dots_conformance.engine_suite import EngineSuite


class TestInstalledEngine(EngineSuite):
    """`EngineSuite`; the plug-in sets its attributes from the command line."""
