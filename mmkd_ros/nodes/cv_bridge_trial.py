"""One conversion by cv_bridge, for the doctor: built for another numpy, cv_bridge may take the process along."""

from __future__ import annotations

import sys


def main() -> int:
    """Convert a Bayer image, which needs cv_bridge's compiled half.

    Returns:
        0 when the result is right, 1 when it is not.
    """
    from cv_bridge import CvBridge
    from sensor_msgs.msg import Image

    bayer = Image(height=2, width=2, encoding="bayer_rggb8", step=2, data=[10, 20, 30, 40])
    shape = CvBridge().imgmsg_to_cv2(bayer, "rgb8").shape
    if shape != (2, 2, 3):
        print(f"a converted image has the shape {shape}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
