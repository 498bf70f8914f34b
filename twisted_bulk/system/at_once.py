"""Runs coroutines to their end at once: what they wait for blocks, so they never wait."""

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

_T = TypeVar("_T")


def finish(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, in this thread.

    :raises RuntimeError: it waited for something that needs a reactor
    """
    try:
        coroutine.send(None)
    except StopIteration as ended:
        value: _T = ended.value
        return value
    coroutine.close()
    raise RuntimeError("a coroutine that should block has waited")


def steps(source: AsyncIterator[_T]) -> Iterator[_T]:
    """The values of an asynchronous iterator that never waits; it is closed with this one."""

    async def following() -> _T:
        return await anext(source)

    try:
        while True:
            try:
                yield finish(following())
            except StopAsyncIteration:
                return
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            finish(close())
