"""The MindSpore engine, CPU and Ascend: `dots_mindspore.engine.engine`."""
