"""`zoo` and `python -m zoo`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """The entry point of the command `zoo`: exits with the codes of errors.py."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch warns of its own deprecations, which is not for users
    from .models.processors import limit_threads

    limit_threads(os.environ)  # before torch and numpy are loaded, which count the machine's cores
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime's, on by itself since 1.31; nothing here uploads
    try:
        from .exporter.cli.app import app
        from .exporter.cli.main import run
    except KeyboardInterrupt:
        sys.exit(130)
    code = run(app, sys.argv[1:])
    gc.freeze()  # else Python looks for garbage in all that torch holds before it ends, for a second
    sys.exit(code)


if __name__ == "__main__":
    main()
