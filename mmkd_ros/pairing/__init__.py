"""Two time-stamped image streams -> pairs, or single images while one camera is silent. No ROS, no threads, no clock.

Two times are kept apart on purpose. *Stamps* are header stamps: they decide which images belong together and in which
order pairs leave. *Arrival* (the ``now`` that the caller passes, from any steady clock) decides how long to wait and
whether a camera is silent. Only distances of the two are ever compared, so replayed and simulated time work as live
time does. docs/pairing.md tells what leaves when.
"""

from mmkd_ros.pairing.options import PairingOptions, SyncOptions
from mmkd_ros.pairing.stage import Paired, Pairing, State
from mmkd_ros.pairing.stream import Sensor

__all__ = ["Paired", "Pairing", "PairingOptions", "Sensor", "State", "SyncOptions"]
