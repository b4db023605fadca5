"""Answers of gRPC methods that stream requests, to callers that use grpcio alone."""

from collections.abc import AsyncIterable, Callable
from typing import TypeVar

import grpc

T = TypeVar("T")

_STATUS_LOST = "Internal error from Core"


async def answers_of(ask: Callable[[], AsyncIterable[T]]) -> list[T]:
    """Return all answers of a call that sends requests.

    A server that ends a call before it was sent all requests has its status overwritten by grpcio, if a request that
    is being sent then fails (github.com/grpc/grpc/issues/36066): our own client waits until it is let in. Such a call
    is made again.

    Args:
        ask: Makes the call.

    Raises:
        AioRpcError: As the server ended the call.
    """
    while True:
        try:
            return [each async for each in ask()]
        except grpc.aio.AioRpcError as error:
            if error.details() != _STATUS_LOST:
                raise
