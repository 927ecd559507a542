"""The machine of `transitions`, whose every step does what it did, without the log lines in between.

A dispatch by `transitions` passes a dozen log lines, which cost more than the decision even when nobody reads them. Its
classes for rows and events can be replaced by one's own (`transition_cls`, `event_cls`); these do the same steps in the
same order. Whoever wants the lines sets the level of the logger `transitions.core` to INFO or DEBUG, as ever: then, and
whenever a machine uses what no table of ours does (a queue, callbacks around each event), the original does the work.
"""

from __future__ import annotations

import logging
from typing import Any

from transitions import EventData, Machine
from transitions.core import Event, Transition

__all__ = ["QuietMachine"]

_log = logging.getLogger("transitions.core")


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
            self._move(machine, event_data)
        for callback in self.after:
            machine.callback(callback, event_data)
        return True

    def _move(self, machine: Any, event_data: EventData) -> None:
        for callback in machine.states[self.source].on_exit:
            machine.callback(callback, event_data)
        event_data.state = dest = machine.states[self.dest]
        setattr(event_data.model, machine.model_attribute, dest.value)
        for callback in dest.on_enter:
            machine.callback(callback, event_data)
        if dest.final:
            machine.callbacks(machine.on_final, event_data)


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

    transition_cls = _Row
    event_cls = _Event
