"""Does nothing until it is signalled: holds a pod's place."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pause()
