"""A proxy between a handle and its server that sees where messages end, and cuts or holds them there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal, NamedTuple

Where = Literal["before", "after"]
CLIENT, SERVER = "client", "server"


class Message(NamedTuple):
    """`number` counts from 1 since the proxy was told what to do, over both directions and all connections."""

    number: int
    sender: str
    kind: str
    data: bytes

    @property
    def text(self) -> str:
        """What stands in it, as far as it is text."""
        return self.data[5:].decode("latin-1")


Action = Literal["pass", "cut before", "cut after", "hold", "swallow"]
Plan = Callable[[Message], Action]


def passing(_: Message) -> Action:
    return "pass"


class Proxy:
    """Listens on loopback, and does with each message what the plan says."""

    def __init__(self, port: int) -> None:
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._plan: Plan = passing
        self._number = 0
        self._released = threading.Event()
        self.held = threading.Event()
        """Set once a message is held back."""
        self.delivered = threading.Event()
        """Set once what was held back has been given to the server, and answered."""
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def plan(self, plan: Plan) -> None:
        """From now on do what `plan` says, counting from 1."""
        with self._lock:
            self._plan, self._number = plan, 0

    @property
    def passed(self) -> int:
        """How many messages came since the plan was given."""
        return self._number

    def cut_once(self, number: int, where: Where) -> None:
        """Cut one connection at the n-th message, before it is handed on or after."""

        def plan(message: Message) -> Action:
            if message.number != number:
                return "pass"
            return "cut before" if where == "before" else "cut after"

        self.plan(plan)

    def release(self) -> None:
        """Hand on what was held back."""
        self._released.set()

    def close(self) -> None:
        self._released.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for sender, source, target in ((CLIENT, client, server), (SERVER, server, client)):
                threading.Thread(target=self._pump, args=(sender, source, target), daemon=True).start()

    def _pump(self, sender: str, source: socket.socket, target: socket.socket) -> None:
        late = False
        try:
            messages = _messages(source, has_start=sender == CLIENT)
            for kind, data in messages:
                with self._lock:
                    self._number += 1
                    action = self._plan(Message(self._number, sender, kind, data))
                    if action.startswith("cut"):
                        self.cuts += 1
                        if action == "cut after":
                            target.sendall(data)
                        return
                if action == "swallow":
                    continue
                if action == "hold":  # the client is told that the connection is gone, the server is not
                    late = True
                    while kind not in "SQ":  # all that belongs to the statement
                        kind, more = next(messages)
                        data += more
                    with suppress(OSError):
                        source.shutdown(socket.SHUT_RDWR)
                    self.held.set()
                    self._released.wait(60)
                target.sendall(data)
                if late:
                    self._deliver_the_rest(target)
                    return
        except OSError:
            pass
        finally:
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _deliver_the_rest(self, server: socket.socket) -> None:
        """After a message that came late: end the statement, so that the server carries it out, and wait for that."""
        with suppress(OSError):
            server.sendall(b"S\0\0\0\4X\0\0\0\4")
            server.shutdown(socket.SHUT_WR)
            server.settimeout(10)
            while server.recv(65536):
                pass
        self.delivered.set()


def _messages(source: socket.socket, *, has_start: bool) -> Iterator[tuple[str, bytes]]:
    """What comes from a socket, message by message: the first of a client has no letter, the others have one."""
    held = b""
    while True:
        head = 0 if has_start else 1
        while len(held) >= head + 4:
            length = int.from_bytes(held[head : head + 4], "big") + head
            if len(held) < length:
                break
            yield "start" if has_start else chr(held[0]), held[:length]
            held, has_start = held[length:], False
            head = 1
        more = source.recv(65536)
        if not more:
            return
        held += more


def silent_but_for_new_ones(word: str = "") -> Plan:
    """From the first message with a word in it on, the network swallows what the connections that there are say, as if
    it had arrived.
    """
    state = "before"

    def plan(message: Message) -> Action:
        nonlocal state
        if state == "before" and message.sender == CLIENT and word in message.text:
            state = "silent"
        if message.kind == "start":
            state = "after"
        return "swallow" if state == "silent" else "pass"

    return plan


def losing_the_answer(word: str) -> Plan:
    """Cut once, when the server has carried out the first statement with a word in it, and before it says so."""
    state = {"seen": False, "done": False}

    def plan(message: Message) -> Action:
        if message.sender == CLIENT and message.kind in "PQ" and word in message.text:
            state["seen"] = True
        if state["seen"] and not state["done"] and message.sender == SERVER and message.kind == "C":
            state["done"] = True
            return "cut before"
        return "pass"

    return plan


def holding(word: str) -> Plan:
    """Hold back, once, the first statement with a word in it, as if the network were slow."""
    held: list[Message] = []

    def plan(message: Message) -> Action:
        if held or message.sender != CLIENT or message.kind not in "PQ" or word not in message.text:
            return "pass"
        held.append(message)
        return "hold"

    return plan
