"""`zoo build` and `zoo predict` as on a board: TensorRT and cuda-python, no torch. Run by test_board.py.

python board.py VERSION COMMAND...
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE))
for name in ("torch", "torchvision", "sklearn", "matplotlib"):
    sys.modules[name] = None

from fake import FakeCuda, World, make_fake  # noqa: E402
from zoo.exporter.backends.tensorrt import cuda, machine  # noqa: E402
from zoo.exporter.backends.tensorrt.cuda import Gpu  # noqa: E402

if __name__ == "__main__":
    world = World()
    sys.modules["tensorrt"] = make_fake(sys.argv[1], world)
    cuda.open_cuda = lambda: FakeCuda(world, Gpu("Orin", "8.7", "540.4.0"))
    machine.driver_cuda = lambda: 12060
    from zoo.__main__ import main

    sys.argv = ["zoo", *sys.argv[2:]]
    sys.exit(main())
