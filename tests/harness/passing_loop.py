"""An event loop whose time a test lets pass, so that a time limit ends when the test says and not when it is short."""

import asyncio


class PassingLoop(asyncio.SelectorEventLoop):
    """Time passes by itself too."""

    _passed_seconds = 0.0

    def time(self) -> float:
        return super().time() + self._passed_seconds

    def let_pass(self, seconds: float) -> None:
        """From any thread."""
        self.call_soon_threadsafe(self._pass, seconds)

    def _pass(self, seconds: float) -> None:
        self._passed_seconds += seconds
