"""The MindSpore engine, CPU and Ascend: `dots_mindspore.engine.engine`."""

import os

# Errors only: MindSpore, which reads this when it is imported, warns where there is no Ascend device.
os.environ.setdefault("GLOG_v", "3")
