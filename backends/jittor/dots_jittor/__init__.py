"""The Jittor engine: `dots_jittor.engine.engine`."""
