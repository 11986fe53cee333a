"""Where the package's own files are: configuration, launch files, weights; in a source tree and after pip or colcon."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "mmkd_ros"


def share_path(relative: str) -> Path:
    """Absolute path of an installed file such as ``config/perception.yaml`` or ``models/mmkd_student.safetensors``.

    Args:
        relative: path below the package's share directory, which has the layout of the source tree.

    Raises:
        FileNotFoundError: neither the source tree nor an installation around this module holds the file.
    """
    here = Path(__file__).resolve()
    source = here.parents[1]
    # An editable install runs from the source tree; pip and colcon put the files into PREFIX/share, the code below
    # PREFIX/lib.
    roots = [source] if (source / "package.xml").is_file() else []
    roots += [parent / "share" / PACKAGE for parent in here.parents]
    for root in roots:
        if (root / relative).exists():
            return root / relative
    raise FileNotFoundError(
        f"'{relative}' is not part of this installation of {PACKAGE} (looked around {here.parent}); install the "
        "package again with `pip install .` or `colcon build`, or give the path of your own file."
    )
