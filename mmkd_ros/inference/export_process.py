"""The child process of :mod:`mmkd_ros.inference.cached_graph`: export weights into the cache folder.

Arguments are the weights, the .onnx to write and the input's height and width. A failure is one line on stderr and an
exit code.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path

from mmkd_ros.inference.cached_graph import NO_TORCH, TIME_LIMIT_S, UNFIT_CHOICE, UNFIT_WEIGHTS
from mmkd_ros.inference.errors import WeightsError
from mmkd_ros.inference.sealed import read_sealed


def main(weights: Path, output: Path, input_size: tuple[int, int]) -> int:
    """Write the graph unless another process does so meanwhile; returns the exit code."""
    signal.alarm(TIME_LIMIT_S)  # also when the parent is killed
    lock = os.open(output.parent, os.O_RDONLY)
    try:
        # One export at a time: each takes torch's memory, and nodes with the same weights start together.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_sound(output):
            from mmkd_ros.inference.exporting import export_weights

            export_weights(weights, output, input_size=input_size)
    except WeightsError as error:
        return _fail(UNFIT_WEIGHTS, error)
    except ImportError as error:
        return _fail(NO_TORCH, error)
    except ValueError as error:
        return _fail(UNFIT_CHOICE, error)
    except OSError as error:  # a full disk, or a library of CUDA is missing
        return _fail(
            UNFIT_CHOICE,
            OSError(f"the export into {output.parent} failed ({error}); make room there, or set XDG_CACHE_HOME."),
        )
    finally:
        os.close(lock)
    return 0


def _is_sound(path: Path) -> bool:
    try:
        read_sealed(path)
    except WeightsError:
        return False
    return True


def _fail(code: int, error: Exception) -> int:
    print(" ".join(str(error).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4]))))
