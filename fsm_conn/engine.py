"""The machine of `transitions`, whose every step does what it did, without the log lines in between.

A dispatch by `transitions` passes a dozen log lines, which cost more than the decision even when nobody reads them. Its
classes for states, rows and events can be replaced by one's own (`state_cls`, `transition_cls`, `event_cls`); these do
the same steps in the same order. Whoever wants the lines sets the level of the logger `transitions.core` to INFO or
DEBUG, as ever: then, and whenever a machine uses what no table of ours does (a queue, callbacks around each event), the
original does the work.
"""

from __future__ import annotations

import logging
from typing import Any

from transitions import EventData, Machine
from transitions.core import Event, State, Transition

__all__ = ["QuietMachine"]

_log = logging.getLogger("transitions.core")


class _State(State):
    def enter(self, event_data: EventData) -> None:
        if _log.isEnabledFor(logging.INFO):
            super().enter(event_data)
            return
        for callback in self.on_enter:
            event_data.machine.callback(callback, event_data)

    def exit(self, event_data: EventData) -> None:
        if _log.isEnabledFor(logging.INFO):
            super().exit(event_data)
            return
        for callback in self.on_exit:
            event_data.machine.callback(callback, event_data)


class _Row(Transition):
    def execute(self, event_data: EventData) -> bool:
        machine: Any = event_data.machine
        if machine.before_state_change or machine.after_state_change or _log.isEnabledFor(logging.INFO):
            return super().execute(event_data)
        for callback in self.prepare:
            machine.callback(callback, event_data)
        for condition in self.conditions:
            if not condition.check(event_data):
                return False
        for callback in self.before:
            machine.callback(callback, event_data)
        if self.dest:  # None: the state is not left
            self._change_state(event_data)
        for callback in self.after:
            machine.callback(callback, event_data)
        return True


class _Event(Event):
    def trigger(self, model: Any, *args: Any, **kwargs: Any) -> bool:
        machine: Any = self.machine
        if machine.has_queue or machine.prepare_event or machine.finalize_event or machine.on_exception:
            return super().trigger(model, *args, **kwargs)
        state = machine.get_model_state(model)
        if not self._is_valid_source(state):
            return False
        event_data = EventData(state, self, machine, model, args, kwargs)
        for row in self.transitions[state.name]:
            event_data.transition = row
            if row.execute(event_data):
                return True
        return False


class QuietMachine(Machine):
    """A `transitions.Machine` in all respects, but for what it logs when nobody reads it."""

    state_cls = _State
    transition_cls = _Row
    event_cls = _Event
