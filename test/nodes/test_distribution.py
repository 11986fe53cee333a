"""The module that knows what differs in rclpy between distributions, against fakes shaped like Humble's and Jazzy's.

The fakes follow rclpy's sources (3.3.15 and 7.1.3); the last test holds the Jazzy one to the rclpy that is installed.
"""

from __future__ import annotations

import enum
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "mmkd_ros" / "nodes" / "distribution.py"
STAMP_NS = 1_700_000_000_123_456_789


class Result:
    def __init__(self, successful: bool) -> None:
        self.successful = successful


class Parameter:
    def __init__(self, name: str, value: object) -> None:
        self.name, self.value = name, value


class HumblePublisherEvents:
    def __init__(
        self, *, deadline: Any = None, liveliness: Any = None, incompatible_qos: Any = None, use_default_callbacks=True
    ) -> None:
        pass


class JazzyPublisherEvents:
    def __init__(
        self,
        *,
        deadline: Any = None,
        liveliness: Any = None,
        incompatible_qos: Any = None,
        incompatible_type: Any = None,
        matched: Any = None,
        use_default_callbacks: bool = True,
    ) -> None:
        self.matched = matched


class SubscriptionEvents:
    def __init__(self, *, incompatible_qos: Any = None, use_default_callbacks: bool = True) -> None:
        pass


class Publisher:
    def __init__(self, events: Any) -> None:
        self._events, self._count, self.sent = events, 0, []

    def publish(self, message: object) -> None:
        self.sent.append(message)

    def get_subscription_count(self) -> int:
        return self._count

    def subscribers_become(self, count: int) -> None:
        self._count = count
        if getattr(self._events, "matched", None):
            self._events.matched(object())


class Timer:
    def __init__(self, period: float, callback: Callable[[], None], clock: Any) -> None:
        self.period, self.callback, self.clock = period, callback, clock


class HumbleNode:
    """Parameters, publishers and timers as in rclpy 3.3."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.judges: list[Callable[[list[Parameter]], Result]] = []
        self.publishers: list[Publisher] = []
        self.timers: list[Timer] = []

    def create_lifecycle_publisher(self, kind: Any, topic: str, quality: Any, **options: Any) -> Publisher:
        self.publishers.append(Publisher(options.pop("event_callbacks", None)))
        assert not options
        return self.publishers[-1]

    def destroy_publisher(self, publisher: Publisher) -> None:
        self.publishers.remove(publisher)

    def create_timer(self, period: float, callback: Callable[[], None], *, clock: Any = None) -> Timer:
        self.timers.append(Timer(period, callback, clock))
        return self.timers[-1]

    def destroy_timer(self, timer: Timer) -> None:
        self.timers.remove(timer)

    def set_parameters(self, parameters: list[Parameter]) -> list[Result]:
        return [self._set_parameters_atomically([parameter]) for parameter in parameters]

    def set_parameters_atomically(self, parameters: list[Parameter]) -> Result:
        return self._set_parameters_atomically(parameters, None, allow_not_set_type=False)

    def _set_parameters_atomically(
        self, parameters: list[Parameter], descriptors: Any = None, allow_not_set_type: bool = False
    ) -> Result:
        for judge in self.judges:
            result = judge(parameters)
            if not result.successful:
                return result
        self.values.update({parameter.name: parameter.value for parameter in parameters})
        return Result(True)


class JazzyNode(HumbleNode):
    """What rclpy 7.1 has beyond that."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Callable[[list[Parameter]], None]] = []

    def add_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        self.told.insert(0, callback)

    def _set_parameters_atomically(self, parameters: list[Parameter], *arguments: Any, **options: Any) -> Result:
        result = super()._set_parameters_atomically(parameters, *arguments, **options)
        if result.successful:
            for callback in self.told:
                callback(parameters)
        return result


class HumbleSubscription:
    """Calls back with the message alone."""

    def __init__(self, callback: Callable[..., None]) -> None:
        self.callback = callback

    def deliver(self, message: object) -> None:
        self.callback(message)


class JazzySubscription(HumbleSubscription):
    """Looks how many arguments the callback takes."""

    class CallbackType(enum.Enum):
        MessageOnly = 0
        WithMessageInfo = 1

    def deliver(self, message: object) -> None:
        if len(inspect.signature(self.callback).parameters) == 1:
            self.callback(message)
        else:
            self.callback(message, {"source_timestamp": STAMP_NS, "received_timestamp": 0})


FAKES: dict[str, dict[str, Any]] = {
    "humble": {
        "rclpy.qos_event": (HumblePublisherEvents, SubscriptionEvents),
        "rclpy.event_handler": None,
        "Subscription": HumbleSubscription,
        "Node": HumbleNode,
    },
    "jazzy": {
        "rclpy.event_handler": (JazzyPublisherEvents, SubscriptionEvents),
        "rclpy.qos_event": None,  # there, but deprecated: importing it warns
        "Subscription": JazzySubscription,
        "Node": JazzyNode,
    },
}


class Distribution:
    """``mmkd_ros.nodes.distribution`` as it is with one distribution's rclpy, and a node of that."""

    def __init__(self, name: str, module: Any) -> None:
        self.name, self.module = name, module
        self.node = FAKES[name]["Node"]()
        self.subscription: Any = FAKES[name]["Subscription"]


@pytest.fixture(params=sorted(FAKES))
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    shape = FAKES[request.param]
    clocks = {"Clock": lambda clock_type: ("clock", clock_type), "ClockType": types.SimpleNamespace(STEADY_TIME=3)}
    modules: dict[str, dict[str, Any] | None] = {
        "rclpy": {},
        "rclpy.clock": clocks,
        "rclpy.lifecycle": {"LifecycleNode": shape["Node"]},
        "rclpy.node": {"Node": shape["Node"]},
        "rclpy.parameter": {"Parameter": Parameter},
        "rclpy.qos": {"QoSProfile": object},
        "rclpy.subscription": {"Subscription": shape["Subscription"]},
    }
    for name in ("rclpy.event_handler", "rclpy.qos_event"):
        events = shape[name]
        both = ("PublisherEventCallbacks", "SubscriptionEventCallbacks")
        modules[name] = None if events is None else dict(zip(both, events, strict=True))
    for name, members in modules.items():
        module = None if members is None else types.ModuleType(name)
        for member, value in (members or {}).items():
            setattr(module, member, value)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location(f"distribution_on_{request.param}", SOURCE)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return Distribution(request.param, loaded)


def look(node: HumbleNode) -> None:
    """What an executor does when timers are due."""
    for timer in node.timers:
        timer.callback()


def test_a_publisher_tells_when_subscribers_come_and_go(fake: Distribution) -> None:
    seen: list[int] = []
    publisher = fake.module.WatchedPublisher(fake.node, object, "overlay", None, lambda: seen.append(-1))
    look(fake.node)
    assert publisher.subscribers() == 0 and not seen
    for count in (1, 2, 0):
        before = len(seen)
        fake.node.publishers[0].subscribers_become(count)
        look(fake.node)
        look(fake.node)  # nothing has changed since
        assert len(seen) == before + 1 and publisher.subscribers() == count
    publisher.publish("picture")
    assert fake.node.publishers[0].sent == ["picture"]


def test_only_humble_looks_by_a_timer_and_it_goes_with_the_publisher(fake: Distribution) -> None:
    publisher = fake.module.WatchedPublisher(fake.node, object, "overlay", None, lambda: None)
    assert [(timer.period <= 0.2, timer.clock) for timer in fake.node.timers] == (
        [(True, ("clock", 3))] if fake.name == "humble" else []
    )
    publisher.destroy()
    assert fake.node.timers == [] and fake.node.publishers == []


@pytest.mark.parametrize("way", ["set_parameters", "set_parameters_atomically"])
def test_parameters_are_told_when_the_node_holds_them(fake: Distribution, way: str) -> None:
    node, told = fake.node, []
    fake.module.after_parameters_are_set(
        node, lambda changes: told.append([(c.name, node.values[c.name]) for c in changes])
    )
    getattr(node, way)([Parameter("trail_s", 3.0)])
    assert told == [[("trail_s", 3.0)]]


def test_refused_parameters_are_not_told(fake: Distribution) -> None:
    node, told = fake.node, []
    node.judges.append(lambda changes: Result(all(change.value != "wrong" for change in changes)))
    fake.module.after_parameters_are_set(node, told.append)
    assert [result.successful for result in node.set_parameters([Parameter("a", "wrong"), Parameter("b", 1)])] == [
        False,
        True,
    ]
    assert [[change.name for change in changes] for changes in told] == [["b"]] and node.values == {"b": 1}


def test_a_message_comes_with_its_publish_time_where_that_is_known(fake: Distribution) -> None:
    got: list[tuple[object, int]] = []
    subscription = fake.subscription(
        fake.module.with_publish_time(lambda message, time_ns: got.append((message, time_ns)))
    )
    subscription.deliver(b"bytes")
    assert got == [(b"bytes", STAMP_NS if fake.name == "jazzy" else 0)]


def test_events_of_subscriptions_have_one_name(fake: Distribution) -> None:
    assert fake.module.SubscriptionEventCallbacks is SubscriptionEvents


@pytest.mark.requires_ros
def test_the_installed_rclpy_has_the_shape_of_the_fake() -> None:
    from rclpy import event_handler, node, subscription

    for real, made in (
        (event_handler.PublisherEventCallbacks, JazzyPublisherEvents),
        (event_handler.SubscriptionEventCallbacks, SubscriptionEvents),
    ):
        assert set(inspect.signature(made).parameters) <= set(inspect.signature(real).parameters)
    assert hasattr(subscription.Subscription, "CallbackType")
    assert {"add_post_set_parameters_callback", "_set_parameters_atomically"} <= set(dir(node.Node))
