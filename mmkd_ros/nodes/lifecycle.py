"""A lifecycle node that a manager drives, or that starts by itself; and the way a node process begins and ends."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import rclpy
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from mmkd_ros.nodes.distribution import after_parameters_are_set
from mmkd_ros.nodes.interrupt import handle
from mmkd_ros.nodes.logs import log_to_ros
from mmkd_ros.nodes.parameters import declare_parameters, read_parameters
from mmkd_ros.nodes.shutdown import ignore_signals, until_signal
from mmkd_ros.nodes.start import init_ros
from mmkd_ros.parameters import ParameterError

P = TypeVar("P")


class ManagedNode(LifecycleNode, Generic[P]):
    """Five verbs to fill in: ``configure`` reads ``self.parameters`` and loads, ``activate`` subscribes and works,
    ``deactivate`` stops, ``cleanup`` frees, ``change`` takes live parameters over. ``configure`` and ``activate`` may
    raise: the sentence is logged, what was begun is undone with the opposite verb (which therefore must bear a
    half-done start), and the transition fails.

    Args:
        name: of the node.
        parameters: its dataclass, with a field ``autostart``.
        options: further arguments of ``rclpy.node.Node``.

    Raises:
        ParameterError: the user has set a parameter that is unknown or does not fit.
    """

    def __init__(self, name: str, parameters: type[P], **options: Any) -> None:
        super().__init__(name, **options)
        self._parameters_type = parameters
        self._configured = False
        # A transition that the present state does not allow raises in rclpy, and would end the process.
        self._transition = self._service_change_state.callback
        self._service_change_state.callback = self._answer_transition
        try:
            self.parameters = declare_parameters(self, parameters, changeable=lambda: not self._configured)
            after_parameters_are_set(self, self._parameters_set)
        except ParameterError:
            self.destroy_node()
            raise

    def configure(self) -> None:
        """Read the parameters, load what is heavy, make the publishers."""

    def activate(self) -> None:
        """Subscribe and begin to work."""

    def deactivate(self) -> None:
        """Unsubscribe and stop working."""

    def cleanup(self) -> None:
        """Free what ``configure`` made."""

    def change(self) -> None:
        """Take over live parameters that were set in the configured node; ``self.parameters`` has them already."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        def configure() -> None:
            self.parameters = read_parameters(self, self._parameters_type)
            self.configure()

        result = self._attempt("configured", configure, self.cleanup)
        self._configured = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt("activated", self.activate, self.deactivate)
        return super().on_activate(state) if result == TransitionCallbackReturn.SUCCESS else result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._leave("deactivated", self.deactivate)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._leave("cleaned up", self.cleanup)
        self._configured = False
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        return TransitionCallbackReturn.SUCCESS

    def stop(self) -> None:
        """Deactivate and clean up from any state."""
        self.deactivate()
        self.cleanup()
        self._configured = False

    def autostart(self) -> bool:
        """Configure and activate; False when that failed (and was logged)."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def _answer_transition(self, request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return self._transition(request, response)
        except rclpy_implementation.RCLError as error:
            self.get_logger().warning(f"A transition was refused: {error}", throttle_duration_sec=5.0)
            response.success = False
            return response

    def _parameters_set(self, changes: list[Parameter]) -> None:
        if self._configured:
            self.parameters = read_parameters(self, self._parameters_type)
            self.change()

    def _leave(self, what: str, verb: Callable[[], None]) -> None:
        try:
            verb()
        except Exception as error:  # rclpy swallows it without a word, and calls on_error
            self.get_logger().error(f"{self.get_name()} cannot be {what}: {error}; it frees what it can.")
            raise

    def _attempt(self, what: str, begin: Callable[[], None], undo: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            begin()
        except Exception as error:  # rclpy would swallow it without a word
            self.get_logger().error(f"{self.get_name()} cannot be {what}: {error}")
            # Exceptions that the core raises are sentences; of all others the place matters.
            self.get_logger().debug(traceback.format_exc())
            undo()
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f"{self.get_name()} is {what}.")
        return TransitionCallbackReturn.SUCCESS


def run(make_node: Callable[[], ManagedNode[Any]], args: list[str] | None = None) -> int:
    """Run one node until a signal comes; the exit code is that of :func:`run_together`."""
    return run_together(lambda: iter([make_node()]), args)


def run_together(make_nodes: Callable[[], Iterator[ManagedNode[Any]]], args: list[str] | None = None) -> int:
    """Run nodes on one executor until a signal comes; they start in the order in which they are made.

    Returns:
        The exit code: 0 after SIGINT or SIGTERM, 1 when a node cannot be made or, under ``autostart``, started.
    """
    # As SIGINT does it; rclpy, which calls the handler that it finds, would let a long configuration end first.
    signal.signal(signal.SIGTERM, handle)
    init_ros(args)
    log_to_ros()
    nodes: list[ManagedNode[Any]] = []
    executor = SingleThreadedExecutor()
    try:
        with until_signal():
            for node in make_nodes():
                nodes.append(node)
                executor.add_node(node)
            for node in nodes:
                if node.parameters.autostart and not node.autostart():
                    return 1 if rclpy.ok() else 0
            executor.spin()
    except ParameterError as error:
        rclpy.logging.get_logger("mmkd_ros").fatal(str(error))
        return 1
    finally:
        for node in reversed(nodes):
            node.stop()
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
        ignore_signals()  # rclpy has put the former handlers back
    return 0
