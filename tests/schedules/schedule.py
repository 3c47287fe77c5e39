"""A schedule: actors, each a thread of its own, and the steps in which they act.

    played = schedule(
        '''
        loader  reaches  load: data read, transactions not asked
        writer  ends
        loader  ends
        ''',
        loader=lambda: worker.read("Front"),
        writer=lambda: other.write("Front", "new"),
    )
    assert played["loader"] == "old"

==================  ===============================================================================
``A reaches P``     A begins, or goes on, until it stands at the point P
``A goes on``       A is let go, and nobody waits for it: it may have to wait for somebody itself
``A ends``          A begins, or goes on, until its function has returned
``A fails``         the same, and its function has raised
==================  ===============================================================================

A point with a colon is one of the library's; another one is the actor's own, who says
``schedule.at("has read once")``.  A thread stops only at the point of its next step.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from .gates import gates

SECONDS = 20


class Step(NamedTuple):
    """One line of a script."""

    line: str
    actor: str
    verb: str
    point: str | None


class Actor:
    """A thread with a context of its own, that stops where the schedule wants it."""

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        self.name = name
        self.function = function
        self.thread: threading.Thread | None = None
        #: The point to stop at, and the one at which it stands.
        self.wanted: str | None = None
        self.standing: str | None = None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def where(self) -> str:
        """For a schedule that came to a halt."""
        if self.thread is None:
            return f"{self.name} has not begun"
        if self.done:
            return f"{self.name} has ended ({self.error or self.result!r})"
        if self.standing is not None:
            return f"{self.name} stands at {self.standing!r}"
        frame = sys._current_frames().get(self.thread.ident or 0)
        return f"{self.name} runs:\n{''.join(traceback.format_stack(frame)[-6:])}"


class Schedule:
    """Plays scripts; the fixture ``schedule`` is one."""

    def __init__(self) -> None:
        # Guards the actors; notified when one of them has come somewhere, or may go on.
        self._changed = threading.Condition()
        self._actors: dict[str, Actor] = {}
        self._by_thread: dict[int, Actor] = {}

    def __call__(self, script: str, **functions: Callable[[], Any]) -> dict[str, Any]:
        """Let the actors act; return what their functions returned, or raised where they had to."""
        steps = parse(script)
        last = {step.actor: step.verb for step in steps}
        assert last.keys() == functions.keys(), "actors and script differ"
        assert set(last.values()) <= {"ends", "fails"}, "the script leaves somebody alone"
        self._actors = {name: Actor(name, function) for name, function in functions.items()}
        named = {step.point for step in steps if step.point is not None and ":" in step.point}
        with gates(named, self.at):
            try:
                for step in steps:
                    self._take(step)
            finally:
                self._let_everybody_go()
        return {
            name: actor.result if actor.error is None else actor.error
            for name, actor in self._actors.items()
        }

    def at(self, point: str) -> None:
        """The calling thread has come to *point*."""
        actor = self._by_thread.get(threading.get_ident())
        if actor is None or actor.wanted != point:
            return
        with self._changed:
            actor.wanted, actor.standing = None, point
            self._changed.notify_all()
            self._changed.wait_for(lambda: actor.standing is None)

    def _take(self, step: Step) -> None:
        actor = self._actors[step.actor]
        with self._changed:
            # One that was let go may have ended by itself.
            assert not (actor.done and step.point), f"before this it has ended: {step.line}"
            actor.wanted, actor.standing = step.point, None
            self._changed.notify_all()
        if actor.thread is None:
            actor.thread = threading.Thread(target=self._run, args=(actor,), daemon=True)
            actor.thread.start()
        if step.verb == "goes on":
            return
        with self._changed:
            came = self._changed.wait_for(lambda: actor.done or actor.standing, timeout=SECONDS)
            everybody = "\n".join(each.where() for each in self._actors.values())
        assert came, f"this does not happen: {step.line}\n{everybody}"
        if step.verb == "fails":
            assert actor.error is not None, f"it has not failed: {step.line}"
        elif actor.error is not None:
            raise actor.error
        assert step.point == actor.standing, f"this did not happen: {step.line}\n{everybody}"

    def _run(self, actor: Actor) -> None:
        self._by_thread[threading.get_ident()] = actor
        try:
            actor.result = actor.function()
        except BaseException as error:
            actor.error = error
        with self._changed:
            del self._by_thread[threading.get_ident()]
            actor.done = True
            self._changed.notify_all()

    def _let_everybody_go(self) -> None:
        with self._changed:
            for actor in self._actors.values():
                actor.wanted = actor.standing = None
            self._changed.notify_all()
        for actor in self._actors.values():
            if actor.thread is not None:
                actor.thread.join(SECONDS)


def parse(script: str) -> list[Step]:
    """The steps of a script; empty lines and what stands behind ``--`` are for the reader."""
    steps = []
    for line in script.splitlines():
        words = line.partition("--")[0].split()
        if not words:
            continue
        actor, verb, *rest = words
        if (verb, *rest) == ("goes", "on"):
            verb, rest = "goes on", []
        assert verb in ("reaches", "goes on", "ends", "fails"), f"not a step: {line}"
        assert bool(rest) == (verb == "reaches"), f"not a step: {line}"
        steps.append(Step(line.strip(), actor, verb, " ".join(rest) or None))
    return steps
