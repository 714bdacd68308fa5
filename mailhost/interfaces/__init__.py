"""
Every seam of mailhost, and the values that cross it.

A package above this one knows its neighbours by these interfaces only; `mailhost.service` puts the
real objects behind them. Each has one contract suite in ``tests/contracts``, run against the real
implementation and the fake alike.

Unless a method says that it blocks, it is called on the event thread and returns at once. Where a
return type is ``T | Deferred[T]`` the plain value is the fast case, and the caller tests for it.
A Deferred fails only with errors of `mailhost.errors`, or is cancelled by its owner.
"""
