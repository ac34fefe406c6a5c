"""GRUB's grammar (grub-core/script/parser.y): lines to statements.

A statement is what GRUB parses at once: a line, or as many as its open constructs need. One that does not parse is
lost as a whole, together with the lines read for it; functions that it had completed by then stay defined.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from measlog.errors import LimitExceededError
from measlog.flatcar.grub.lexer import Lexer, Lost, Part, PartKind, Token

__all__ = ["Command", "CommandList", "For", "If", "Script", "Statement", "Unit", "While", "Word", "compile_script"]

Word = tuple[Part, ...]


@frozen
class Command:
    """A command line: its words, and the statements of the block that ends it, where there is one."""

    words: tuple[Word, ...]
    block: CommandList | None = None


@frozen
class CommandList:
    """Statements one after the other."""

    statements: tuple[Statement, ...]


@frozen
class If:
    """``otherwise`` is a list (``else``), another If (``elif``) or None."""

    condition: CommandList
    then: CommandList
    otherwise: CommandList | If | None


@frozen
class For:
    """``words`` is empty where the list of words is, which GRUB takes for an error."""

    name: bytes
    words: tuple[Word, ...]
    body: CommandList


@frozen
class While:
    """``while``, or ``until``."""

    condition: CommandList
    body: CommandList
    until: bool


Statement = Command | CommandList | If | For | While


@frozen
class Unit:
    """What one call of GRUB's parser gives: functions defined on the way, and the statements (None when lost)."""

    functions: tuple[tuple[bytes, CommandList], ...]
    body: CommandList | None
    line: int


Script = tuple[Unit, ...]


def compile_script(source: bytes, *, file: bool, scan: int, nesting: int) -> Script:
    """Parse a configuration file (``file``), or the text of a menu entry.

    In a file, carriage returns and lines that begin with ``#`` are gone before the lexer sees them, even inside quotes
    (normal/main.c, lib/getline.c). Raises LimitExceededError where ``scan`` bytes or ``nesting`` levels do not do.
    """
    if file:
        lines = source.replace(b"\r", b"").split(b"\n")
        if not lines[-1]:
            lines.pop()
        # Lines are C strings: what follows a NUL is not seen.
        lines = [line.partition(b"\0")[0] for line in lines if not line.startswith(b"#")]
    else:
        lines = source.split(b"\n")
    return _Parser(lines, scan, nesting).units()


class _Parser:
    def __init__(self, lines: Sequence[bytes], scan: int, nesting: int) -> None:
        self._lexer = Lexer(lines, scan=scan)
        self._nesting = nesting
        self._level = 0
        self._held: Token | None = None
        self._functions: list[tuple[bytes, CommandList]] = []

    def units(self) -> Script:
        made: list[Unit] = []
        lexer = self._lexer
        while lexer.next_line < len(lexer.lines):
            line = lexer.next_line
            self._held = None
            self._level = 0
            self._functions = []
            body: CommandList | None
            try:
                lexer.start()
                body = self._script()
            except Lost:
                body = None
            if body is None or body.statements or self._functions:
                made.append(Unit(tuple(self._functions), body, line))
        return tuple(made)

    def _peek(self) -> str:
        if self._held is None:
            self._held = self._lexer.token()
        return self._held.kind

    def _next(self) -> Token:
        self._peek()
        token, self._held = self._held, None
        assert token is not None
        return token

    def _expect(self, kind: str) -> Token:
        token = self._next()
        if token.kind != kind:
            raise Lost
        return token

    def _enter(self) -> None:
        self._lexer.open()
        self._level += 1
        if self._level > self._nesting:
            raise LimitExceededError(
                f"blocks nested more than {self._nesting} deep", path=f"lines[{self._lexer.next_line - 1}]"
            )

    def _leave(self) -> None:
        self._lexer.close()
        self._level -= 1

    def _newlines(self) -> None:
        while self._peek() == "\n":
            self._next()

    def _delimiters(self) -> bool:
        """One ``;`` or newline, then newlines; False where there is none."""
        if self._peek() not in {";", "\n"}:
            return False
        self._next()
        self._newlines()
        return True

    def _script(self) -> CommandList:
        statements: list[Statement] = []
        self._newlines()
        while self._peek() != "eof":
            if self._peek() == "function":
                self._function()
            else:
                statements.append(self._command())
            if not self._delimiters():
                raise Lost
        return CommandList(tuple(statements))

    def _commands(self, *ends: str) -> CommandList:
        """``commands1 delimiters1`` up to one of ``ends``, which stays."""
        statements: list[Statement] = []
        self._newlines()
        while True:
            statements.append(self._command())
            delimited = self._delimiters()
            if self._peek() in ends:
                # A block may end without a delimiter, a clause may not.
                if not delimited and "}" not in ends:
                    raise Lost
                return CommandList(tuple(statements))
            if not delimited:
                raise Lost

    def _function(self) -> None:
        self._next()
        name = self._expect("name")
        self._enter()
        self._newlines()
        self._expect("{")
        body = self._body_of_function()
        self._expect("}")
        self._functions.append((name.parts[0].text, body))
        self._leave()

    def _body_of_function(self) -> CommandList:
        statements: list[Statement] = []
        self._newlines()
        while True:
            statements.append(self._command())
            if not self._delimiters():
                raise Lost
            if self._peek() == "}":
                return CommandList(tuple(statements))

    def _command(self) -> Statement:
        kind = self._peek()
        if kind == "if":
            return self._if()
        if kind == "for":
            return self._for()
        if kind in {"while", "until"}:
            return self._while()
        if kind not in {"name", "word"}:
            raise Lost
        words = [self._next().parts, *self._arguments()]
        if self._peek() != "{":
            return Command(tuple(words))
        source, block = self._block()
        words.append((Part(PartKind.BLOCK, source),))
        return Command(tuple(words), block)

    def _arguments(self) -> list[Word]:
        words: list[Word] = []
        while self._peek() not in _NOT_ARGUMENTS:
            words.append(self._next().parts)
        return words

    def _block(self) -> tuple[bytes, CommandList]:
        self._next()
        self._enter()
        start = self._lexer.record()
        body = self._commands("}")
        self._expect("}")
        source = self._lexer.recorded(start)
        self._leave()
        return source[: source.rindex(b"}")], body

    def _if(self) -> If:
        self._next()
        self._enter()
        made = self._clause()
        self._expect("fi")
        self._leave()
        return made

    def _clause(self) -> If:
        condition = self._commands("then")
        self._expect("then")
        then = self._commands("fi", "else", "elif")
        if self._peek() == "else":
            self._next()
            return If(condition, then, self._commands("fi"))
        if self._peek() == "elif":
            self._next()
            self._level += 1
            if self._level > self._nesting:
                raise LimitExceededError(f"more than {self._nesting} conditions after each other")
            made = If(condition, then, self._clause())
            self._level -= 1
            return made
        return If(condition, then, None)

    def _for(self) -> For:
        self._next()
        name = self._expect("name")
        self._enter()
        self._expect("in")
        words = self._arguments()
        if not self._delimiters():
            raise Lost
        self._expect("do")
        body = self._commands("done")
        self._expect("done")
        self._leave()
        return For(name.parts[0].text, tuple(words), body)

    def _while(self) -> While:
        until = self._next().kind == "until"
        self._enter()
        condition = self._commands("do")
        self._expect("do")
        body = self._commands("done")
        self._expect("done")
        self._leave()
        return While(condition, body, until)


_NOT_ARGUMENTS = frozenset({"eof", "\n", "||", "&&", ";;", "|", "&", ";", "<", ">", "{", "}", "[[", "]]"})
