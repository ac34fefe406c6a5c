"""Execution of a GRUB script (grub-core/script/execute.c), with the measurements that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from measlog.errors import LimitExceededError
from measlog.flatcar.grub.builds import COMMAND_MODULES
from measlog.flatcar.grub.devices import Devices
from measlog.flatcar.grub.environment import Environment
from measlog.flatcar.grub.expand import Scope, expand
from measlog.flatcar.grub.model import GrubEvent, GrubFile, GrubLimits, Machine, Outcome
from measlog.flatcar.grub.parser import Command, CommandList, For, If, Script, Statement, While, Word, compile_script
from measlog.flatcar.grub.status import Status

__all__ = ["Engine", "Entry", "Menu", "Stop"]

MAX_RECURSION = 64
"""MAX_RECURSION_DEPTH of script/execute.c."""


class Stop(Exception):  # noqa: N818  (the end of a run is no error)
    """GRUB runs no further: it boots, leaves, or waits for a person."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Entry:
    """A menu entry: ``arguments`` become its positional parameters."""

    __slots__ = ("arguments", "id", "source", "submenu", "title", "users")

    def __init__(
        self, *, arguments: list[bytes], identity: bytes | None, source: bytes, submenu: bool, users: bytes | None
    ) -> None:
        self.arguments = arguments
        self.title = arguments[0]
        self.id = arguments[0] if identity is None else identity
        self.source = source
        self.submenu = submenu
        self.users = users


class Menu:
    """The entries of one context."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: list[Entry] = []


class Engine:
    """One run of GRUB: state, statements, measurements. Commands are in :mod:`measlog.flatcar.grub.commands`.

    ``pending`` is ``grub_errno`` as far as it outlives the statement that set it: ``!`` without a command, the limit of
    the recursion and the redefinition of a running function leave it behind, and the next command finds it. ``typed``
    are the lines that a person gives to the command line.
    """

    def __init__(
        self,
        machine: Machine,
        limits: GrubLimits,
        config: bytes | None,
        cache: dict[tuple[bytes, bool], Script],
        typed: Sequence[bytes] = (),
    ) -> None:
        self.machine = machine
        self.typed = tuple(typed)
        self.build = machine.build
        self.limits = limits
        self.devices = Devices(machine, config)
        self.environment = Environment(variables=limits.variables, word=limits.word)
        self.modules = set(self.build.modules)
        self.functions: dict[bytes, CommandList] = {}
        self.menus: list[Menu | None] = [None]
        self.events: list[GrubEvent] = []
        self.assumptions: list[str] = []
        self.attributes: dict[tuple[bytes, int], int] = {}
        self.search_cache: dict[tuple[str, bytes], bytes] = {}
        self.loaded: tuple[Outcome, bytes] | None = None
        self.kernel: bytes | None = None
        self.kernel_file: GrubFile | None = None
        self.command_line: bytes | None = None
        self.initrds: list[bytes] = []
        self.runs = 0
        self.scope: Scope | None = None
        self.pending = Status.NONE
        self._cache = cache
        self._executing: list[bytes] = []
        self._depth = 0
        self._loops = 0
        self._breaks = 0
        self._continue = False
        self._return = False
        self._steps = 0
        self._text = 0

    # Measurements

    def _event(self, event: GrubEvent) -> None:
        if len(self.events) >= self.limits.events:
            raise LimitExceededError(f"more than {self.limits.events} measurements")
        self.events.append(event)

    def measure_command(self, text: bytes) -> None:
        """A command line, into PCR 8."""
        data = self.build.command_prefix + text + b"\0"
        hashed = text + b"\0" if self.build.hash_nul else text
        self._event(GrubEvent(pcr=8, kind="command", text=text, data=data, hashed=hashed))

    def measure_cmdline(self, text: bytes) -> None:
        """The kernel's command line, into PCR 8."""
        data = self.build.cmdline_prefix + text + b"\0"
        self._event(GrubEvent(pcr=8, kind="cmdline", text=text, data=data, hashed=text))

    def measure_file(self, name: bytes, file: GrubFile) -> None:
        """A file as it is stored, into PCR 9."""
        self._event(
            GrubEvent(pcr=9, kind="file", text=name, data=name + b"\0", hashed=file.content, digests=file.digests)
        )

    def measure_image(self, name: bytes, file: GrubFile) -> None:
        """An image that shim verifies, into PCR 4."""
        self._event(GrubEvent(pcr=4, kind="image", text=name, data=b"", digests=file.authenticode))

    def measure_load_options(self, text: bytes) -> None:
        """What the kernel's EFI stub was given as load options, into PCR 9 (Linux, efi/libstub, EFISTUB_EVT_LOAD_OPTIONS)."""
        tag = b"LOADED_IMAGE::LoadOptions\0"
        data = (0x8F3B22ED).to_bytes(4, "little") + len(tag).to_bytes(4, "little") + tag
        hashed = text.decode("latin-1").encode("utf-16-le")
        self._event(GrubEvent(pcr=9, kind="options", text=text, data=data, hashed=hashed))

    def open(self, name: bytes, *, measure: bool = True) -> GrubFile | Status:
        """Open a file as a command does; opening is what is measured."""
        self.pending = Status.NONE
        found = self.devices.file(name, self.environment.get(b"root"))
        if isinstance(found, Status):
            return found
        if found.measured and measure and "tpm" in self.modules:
            self.measure_file(name, found.file)
        return found.file

    def assume(self, text: str) -> None:
        """Note something that GRUB does and the model does not know."""
        if text not in self.assumptions:
            self.assumptions.append(text)

    # Scripts

    def compile(self, source: bytes, *, file: bool) -> Script:
        """The parsed form of a script, parsed once however often it runs. Raises LimitExceededError."""
        key = source, file
        if key not in self._cache:
            if len(source) > self.limits.config_size:
                raise LimitExceededError(f"a script of {len(source)} bytes, the most is {self.limits.config_size}")
            self._cache[key] = compile_script(source, file=file, scan=self.limits.scan, nesting=self.limits.nesting)
        return self._cache[key]

    def run_script(self, source: bytes, *, file: bool) -> None:
        """Run a file, or a menu entry: the latter ends at a statement that does not parse."""
        for unit in self.compile(source, file=file):
            if file:
                # Errors are printed before each line of a file (normal/main.c).
                self.pending = Status.NONE
            for name, body in unit.functions:
                # A function that is running keeps its body (script/function.c).
                if name in self._executing:
                    self.pending = Status.BAD_ARGUMENT
                else:
                    self.functions[name] = body
            if unit.body is None:
                self.pending = Status.NONE
                if not file:
                    return
                continue
            if unit.body.statements:
                self._statement(unit.body)

    def run_in_scope(self, source: bytes, arguments: list[bytes]) -> None:
        """Run a menu entry's text with its arguments as positional parameters."""
        outer = self.scope
        self.scope = Scope(arguments)
        self.run_script(source, file=False)
        self.scope = outer

    def expand(self, words: tuple[Word, ...]) -> list[bytes]:
        """The arguments that words become now. Raises LimitExceededError."""
        made = expand(
            words,
            self.environment.get,
            self.scope,
            keep_hex=self.build.keep_hex_escapes,
            limit=self.limits.word,
            wildcards="regexp" in self.modules,
        )
        self._text += sum(map(len, made)) + len(made)
        if self._text > self.limits.text:
            raise LimitExceededError(f"the script makes more than {self.limits.text} bytes of text")
        return made

    def _status(self, status: int) -> None:
        self.environment.set(b"?", b"%d" % status)

    def _statement(self, statement: Statement) -> int:
        """``grub_script_execute_cmd``. The depth stays counted where the limit was met, as in the original."""
        self._steps += 1
        if self._steps > self.limits.steps:
            raise LimitExceededError(f"more than {self.limits.steps} statements were run")
        self._depth += 1
        if self._depth >= MAX_RECURSION:
            self.pending = Status.RECURSION_DEPTH
            return Status.RECURSION_DEPTH
        if isinstance(statement, Command):
            status = self._command(statement)
        elif isinstance(statement, CommandList):
            status = self._list(statement)
        elif isinstance(statement, If):
            status = self._if(statement)
        elif isinstance(statement, For):
            status = self._for(statement)
        else:
            status = self._while(statement)
        self._depth -= 1
        self._status(status)
        return status

    def _list(self, body: CommandList) -> int:
        status = 0
        for statement in body.statements:
            if self._breaks:
                break
            status = self._statement(statement)
            if self._return:
                break
        return status

    def _if(self, statement: If) -> int:
        status = self._statement(statement.condition)
        if self._return:
            return status
        self.pending = Status.NONE
        if self.environment.get(b"?") == b"0":
            return self._statement(statement.then)
        return 0 if statement.otherwise is None else self._statement(statement.otherwise)

    def _for(self, statement: For) -> int:
        if not statement.words:
            return self.pending
        values = self.expand(statement.words)
        self._loops += 1
        status = 0
        for value in values:
            if self._continue and self._breaks == 1:
                self._breaks = 0
            if not self._breaks:
                self.environment.set(statement.name, value)
                status = self._statement(statement.body)
                if self._return:
                    break
        if self._breaks:
            self._breaks -= 1
        self._loops -= 1
        return status

    def _while(self, statement: While) -> int:
        self._loops += 1
        while True:
            status = self._statement(statement.condition)
            if self._unwinding() or (status == 0) is statement.until:
                break
            status = self._statement(statement.body)
            if self._unwinding():
                break
            if self._breaks == 1 and self._continue:
                self._breaks = 0
            if self._breaks:
                break
        if self._breaks:
            self._breaks -= 1
        self._loops -= 1
        return status

    def _unwinding(self) -> bool:
        return self._return

    def leave_loops(self, count: int, *, resume: bool) -> None:
        """``break``, or ``continue`` (``resume``), out of ``count`` loops."""
        self._continue = resume
        self._breaks = min(count, self._loops)

    def leave_function(self) -> None:
        """``return``."""
        self._return = True

    def _command(self, command: Command) -> int:
        arguments = self.expand(command.words)
        if not arguments:
            return self.pending
        # Measured before it is looked up: what fails, and what is unknown, is recorded too.
        self.measure_command(b" ".join(arguments))
        invert = arguments[0] == b"!"
        if invert:
            del arguments[0]
            if not arguments:
                self.pending = Status.BAD_ARGUMENT
                return Status.BAD_ARGUMENT
        status = self._dispatch(arguments[0], arguments[1:], command.block)
        self.pending = Status.NONE
        if status is None:
            return 0
        if invert:
            status = Status.TEST_FAILURE if status == 0 else 0
        self._status(status)
        return status

    def _dispatch(self, name: bytes, arguments: list[bytes], block: CommandList | None) -> int | None:
        """Run a command or a function; None where the name is neither."""
        from measlog.flatcar.grub.commands import COMMANDS  # noqa: PLC0415  (commands know the engine)

        if not self.modules.isdisjoint(COMMAND_MODULES.get(name, ())):
            run = COMMANDS.get(name)
            if run is None:
                self.assume(f"{name.decode()} changes nothing that the configuration can see")
                return 0
            return run(self, name, arguments, block)
        self.pending = Status.NONE
        if (body := self.functions.get(name)) is not None:
            return self._call(name, body, arguments)
        variable, equals, value = name.partition(b"=")
        # The name of an assignment is not checked, but for positional parameters.
        if equals and not (variable[:1].isdigit() or variable in {b"#", b"*", b"@"}):
            self.environment.set(variable, value)
        return None

    def _call(self, name: bytes, body: CommandList, arguments: list[bytes]) -> int:
        loops, self._loops = self._loops, 0
        outer, self.scope = self.scope, Scope(arguments)
        self._executing.append(name)
        status = self._statement(body)
        self._executing.pop()
        self._return = False
        self._loops = loops
        self.scope = outer
        return status

    # Contexts

    @property
    def menu(self) -> Menu:
        """The menu of the current context, made when it is first needed."""
        made = self.menus[-1]
        if made is None:
            made = self.menus[-1] = Menu()
        return made

    def open_context(self) -> None:
        """Begin a context: exported variables alone, and a menu of its own."""
        self.environment.open()
        self.menus.append(None)

    def close_context(self) -> None:
        """End it."""
        self.environment.close()
        self.menus.pop()

    def variables(self) -> Mapping[bytes, bytes]:
        """The variables as they are."""
        return {name: self.environment.get(name) or b"" for name in self.environment}
