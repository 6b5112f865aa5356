"""What changed, for everybody who watches: one look at the disk serves every open page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from app import __version__, models
from app.api.schema import EnvironmentChanged, EnvironmentView, OperationChanged, Ping, Points, Snapshot, StreamEvent
from app.environment import environment_view
from app.operations import Operations

LOOK_SECONDS = 0.25
PING_SECONDS = 10.0


class Hub:
    """Watches the home folder while somebody listens, and tells each listener what is new to them."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self._environment: EnvironmentView | None = None
        self._environment_version = 0
        self._environment_mark: object = None

    def snapshot(self) -> Snapshot:
        """Everything the page shows, as of now."""
        followed = self.operations.refresh()
        return Snapshot(
            version=__version__,
            home=str(self.operations.home.root),
            environment=self.environment(),
            operations=[each.view() for each in followed],
            models=models.models(),
            datasets=models.datasets(),
        )

    def environment(self) -> EnvironmentView:
        """The environments as they are now; read again only when something on disk has moved."""
        mark = self._look_at_environments()
        if self._environment is None or mark != self._environment_mark:
            self._environment, self._environment_mark = environment_view(self.operations), mark
            self._environment_version += 1
            self.operations.standby.end_unless_in(self.operations.interpreter())
        return self._environment

    def _look_at_environments(self) -> object:
        """Changes whenever an environment appears, goes, is named or switched, or a run in it ends."""
        store = self.operations.store
        marks: list[object] = [sum(each.ended for each in self.operations.refresh())]
        told = sorted(store.envs.glob("*/label.json")) + sorted(store.envs.glob("*/damage.json"))
        for path in (store.envs, store.pointer, store.history, *told):
            try:
                marks.append((path, path.stat().st_mtime_ns))
            except FileNotFoundError:
                marks.append(None)
        return marks

    async def events(self) -> AsyncIterator[StreamEvent]:
        """A snapshot, then whole records as they change, until the listener leaves."""
        snapshot = await asyncio.to_thread(self.snapshot)
        yield snapshot
        told = {each.id: each.version for each in self.operations.refresh()}
        points = {each.id: len(each.losses) for each in self.operations.refresh()}
        environment, quiet = self._environment_version, 0.0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            quiet += LOOK_SECONDS
            current = await asyncio.to_thread(self.environment)
            if self._environment_version != environment:
                environment, quiet = self._environment_version, 0.0
                yield EnvironmentChanged(environment=current)
            for each in self.operations.refresh():
                if told.get(each.id) != each.version:
                    told[each.id], quiet = each.version, 0.0
                    yield OperationChanged(operation=each.view())
                if new := each.losses[points.get(each.id, 0) :]:
                    points[each.id] = len(each.losses)
                    yield Points(operation=each.id, loss=new)
            if quiet >= PING_SECONDS:
                quiet = 0.0
                yield Ping()
