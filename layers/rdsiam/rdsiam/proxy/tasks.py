"""The end of tasks that were begun for other work."""

import asyncio
from typing import Any

__all__ = ["end"]


async def end(task: "asyncio.Future[Any]") -> None:
    """Cancel a task that still runs, and wait until it has cleaned up; its result was taken, or is not needed."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
