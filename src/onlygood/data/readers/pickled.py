"""Pickles of plain data, read as data: nothing that a file names is imported or called.

The python version of CIFAR is a set of pickles. Unpickling runs whatever a file asks for, so this
package never does it. This reader walks the opcodes, which the standard library only decodes, and
knows those that Python 2 wrote for dictionaries, lists, tuples, numbers, strings and numpy arrays
of bytes. The three names that such an array needs are compared as text and stand for themselves;
any other name, and any other opcode, is refused.
"""

import pickletools
from pathlib import Path
from typing import Any, final

import numpy as np

from onlygood.core.errors import DataError
from onlygood.data.source import printable

_RECONSTRUCT = "numpy.core.multiarray _reconstruct"
_NDARRAY = "numpy ndarray"
_DTYPE = "numpy dtype"
_OF_BYTES = (b"u1", 0, 1)
"""What numpy calls its dtype with, where the array is one of uint8."""


@final
class _Name(str):
    """A global that the file refers to; never looked up."""

    __slots__ = ()


@final
class _Array:
    """An array whose content comes later in the file."""

    content: np.ndarray | None = None


_UINT8 = object()
_MARK = object()


def read_pickle(path: Path) -> dict[bytes, Any]:
    """Read a pickled dictionary; strings are bytes, as Python 2 had them.

    Raises:
        DataError: it cannot be read, is cut off, or holds anything but plain data.
    """
    try:
        found = _walk(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{printable(path)}: cannot be read ({error.strerror}); copy it again"
        ) from error
    # The last four: what a damaged file makes of the stack.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{printable(path)}: is no whole pickle of plain data ({error}); anything else could "
            "run code and is not read; give the original file"
        ) from error
    return {key: v.content if isinstance(v, _Array) else v for key, v in found.items()}


def _walk(data: bytes) -> dict[bytes, Any]:
    """The dictionary that the opcodes describe.

    The stack holds nothing but values of the few kinds below, so an operation on the wrong kind
    fails and does nothing else.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        match opcode.name:
            case "PROTO":
                pass
            case "MARK":
                stack.append(_MARK)
            case "NONE":
                stack.append(None)
            case "NEWFALSE" | "NEWTRUE":
                stack.append(opcode.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2":
                stack.append(argument)
            case "SHORT_BINSTRING" | "BINSTRING":
                stack.append(argument.encode("latin-1"))  # as which it was decoded
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "TUPLE":
                stack.append(tuple(_since_mark(stack)))
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items = _since_mark(stack)
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1].update(_pairs([key, value]))
            case "SETITEMS":
                items = _since_mark(stack)
                stack[-1].update(_pairs(items))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                if argument not in (_RECONSTRUCT, _NDARRAY, _DTYPE):
                    raise ValueError(f"it names {argument!r}")
                stack.append(_Name(argument))
            case "REDUCE":
                arguments, name = stack.pop(), stack.pop()
                stack.append(_reduced(name, arguments))
            case "BUILD":
                state = stack.pop()
                _build(stack[-1], state)
            case "STOP":
                found = stack.pop()
                if not isinstance(found, dict):
                    raise ValueError(f"it holds a {type(found).__name__}, not a dictionary")
                return found
            case other:
                raise ValueError(f"it has the opcode {other}")
    raise ValueError("it does not end")


def _since_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _pairs(items: list[Any]) -> dict[bytes, Any]:
    pairs = dict[bytes, Any]()
    for key, value in zip(items[::2], items[1::2], strict=True):
        # The hash of a key of any depth could overflow the interpreter's own stack.
        if not isinstance(key, bytes):
            raise ValueError("a key of it is not a string")
        pairs[key] = value
    return pairs


def _reduced(name: object, arguments: object) -> object:
    """What a call of the name would make."""
    if isinstance(name, _Name):
        if name == _RECONSTRUCT:
            return _Array()
        if name == _DTYPE and arguments == _OF_BYTES:
            return _UINT8
    raise ValueError("it has something else than arrays of bytes")


def _build(made: object, state: Any) -> None:
    if isinstance(made, _Array):
        _, shape, dtype, by_columns, content = state
        if dtype is not _UINT8 or not isinstance(content, bytes):
            raise ValueError("it has something else than arrays of bytes")
        values = np.frombuffer(content, np.uint8)
        made.content = values.reshape(shape, order="F" if by_columns else "C")
    elif made is not _UINT8:  # whose byte order and alignment mean nothing
        raise ValueError("it sets the state of something else than an array")
