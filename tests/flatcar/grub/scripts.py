"""Random GRUB scripts from a grammar: valid and broken, always ending.

The same seed gives the same scripts. They touch variables ``v0`` to ``v9`` and functions ``f0`` to ``f5`` alone, so that a
boot that runs them goes on as it would have; they read files below ``($root)/torture`` and ``($root)/flatcar``.
"""

from __future__ import annotations

import random

__all__ = ["LIBRARY", "Writer", "scripts"]

LIBRARY = {
    "torture/lib.cfg": 'set v9="from lib"\necho lib $# "$1" $v1\n',
    "torture/empty": "",
    "torture/word": "x",
    "torture/no-newline.cfg": "echo last line",
    "torture/returns.cfg": "echo carriage \r\necho 'return\r\nkept'\r\n",
    "torture/hash.cfg": "echo 'a\n# not a comment\nb'\n  # comment\necho #c\n",
}

_PIECES = (
    "a", "B7", "-", "--x", "=", "a=b", "x1", "/", ".", "*", "?", "[", "]", "!", "#x", "%", "@", "~", "é", "0", "1", "08",
    "0x1f", ":", ",", "^", "+", "(", ")", "in", "do", "done", "then", "fi", "if", "for", "case", "esac", "function",
)  # fmt: skip
_QUOTED = (" ", "  ", "\t", "a b", "#", ";", "&&", "|", "{", "}", "<", ">", "(", ")", "=", "-n", "é", "~", "1", "")
_ESCAPES = ("\\ ", "\\$", "\\\\", '\\"', "\\'", "\\n", "\\#", "\\;", "\\{", "\\x", "\\t", "\\x41", "\\*")
_BROKEN = (
    "{ echo a; }", "echo a | echo b", "echo a && echo b", "if", "then", "fi", "echo $", 'echo "$"', 'echo "${x"', "done",
    "for 1 in a; do echo a; done", "echo a;; echo b", "menuentry x { }", "function f0 { }", "echo [[ a ]]", "}",
    "while do done", "if [ 1 = 1 ]; then; fi", "echo a > b", "else", "for v0 do echo a; done", "echo a & echo b",
    "if [ 1 = 1 ]\n ; then echo a; fi", "function f1 { echo one; } echo two", "echo a; ; echo b", "echo ok; echo $(a)",
)  # fmt: skip


class Writer:
    """Writes scripts with one source of randomness."""

    def __init__(self, seed: int | str) -> None:
        self.random = random.Random(seed)

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def chance(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == 0

    def variable(self) -> str:
        name = f"v{self.random.randrange(10)}"
        return self.pick(f"${name}", f"${{{name}}}", f"${name}", "$?", "$1", "$#", "$*", "$@", "${2}", "$unset", "$0")

    def double_quoted(self) -> str:
        parts = []
        for _ in range(self.random.randrange(4)):
            kind = self.random.randrange(6)
            if kind < 2:
                parts.append(self.variable())
            elif kind == 2:
                parts.append(self.pick(*_ESCAPES, "\\\n", "\n"))
            else:
                parts.append(self.pick(*_QUOTED, *_PIECES))
        return '"' + "".join(parts) + '"'

    def single_quoted(self) -> str:
        parts = [self.pick(*_QUOTED, *_PIECES, "$v1", "\\", '"', "\n") for _ in range(self.random.randrange(4))]
        return "'" + "".join(parts) + "'"

    def word(self) -> str:
        parts = []
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            kind = self.random.randrange(10)
            if kind < 3:
                parts.append(self.pick(*_PIECES))
            elif kind < 5:
                parts.append(self.variable())
            elif kind < 7:
                parts.append(self.double_quoted())
            elif kind == 7:
                parts.append(self.single_quoted())
            elif kind == 8:
                parts.append(self.pick(*_ESCAPES))
            else:
                parts.append(self.pick("\\\n", '$"tr ' + self.pick("$v2", "a", "\\$", "${v3}") + '"', '""', "''"))
        return "".join(parts)

    def words(self, least: int = 0) -> str:
        gap = self.pick(" ", "  ", "\t", " ", " \\\n ")
        return gap.join(self.word() for _ in range(least + self.random.randrange(4)))

    def end(self) -> str:
        return self.pick(";", "\n", "\n", " ;\n", "\n\n", " # comment\n", "; # it's \"one\n")

    def file(self) -> str:
        name = self.pick(
            "torture/lib.cfg", "torture/empty", "torture/word", "TORTURE/Word", "flatcar/first_boot", "none"
        )
        return f"($root)/{name}" if self.chance(2) else f"/{name}"

    def condition(self) -> str:
        word = self.word
        number = self.pick("0", "1", "-1", "12", "0x10", "010", "abc", '""', "$v4", "4294967296")
        other = self.pick("0", "1", "2", "16", "8", "-1", "$?")
        tests = (
            f"{word()} = {word()}",
            f"{word()} != {word()}",
            f"{number} {self.pick('-eq', '-ne', '-lt', '-le', '-gt', '-ge')} {other}",
            f"-n {word()}",
            f"-z {word()}",
            f"{self.pick('-e', '-f', '-d', '-s')} {self.file()}",
            f"{word()} '{self.pick('<', '>', '<=', '>=')}' {word()}",
            f"file-{number} {self.pick('-pgt', '-plt')} file-{other}",
            word(),
            "",
        )
        made = self.random.choice(tests)
        while self.chance(3):
            made = self.pick(
                f"! {made}",
                f"{made} {self.pick('-a', '-o')} {self.random.choice(tests)}",
                f"\\( {made} \\)",
                f"'(' {made} ')' -o {self.random.choice(tests)}",
            )
        return self.pick(f"[ {made} ]", f"test {made}", f"! [ {made} ]", f"! test {made}", f"[ {made} ]")

    def simple(self) -> str:
        name = f"v{self.random.randrange(10)}"
        function = f"f{self.random.randrange(6)}"
        choices = (
            lambda: f"echo {self.words()}",
            lambda: f"echo {self.words(1)}",
            lambda: f"set {name}={self.word()}",
            lambda: f"{name}={self.word()}",
            lambda: f"set {name}={self.double_quoted()}",
            lambda: f"unset {name}",
            self.condition,
            lambda: f"{function} {self.words()}",
            lambda: f"no_such_command {self.words()}",
            lambda: f"{self.variable()} {self.words()}",
            lambda: f"export {name}",
            lambda: f"return {self.pick('', '0', '3', 'x', '1 2')}",
            lambda: f"{self.pick('break', 'continue')} {self.pick('', '', '1', '2', '0', 'x')}",
            lambda: f"shift {self.pick('', '1', '9', 'x')}",
            lambda: f"setparams {self.words()}",
            lambda: f"{self.pick('source', '.')} {self.file()}",
            lambda: f"search --file --set {name} /{self.pick('torture/word', 'torture/none', 'flatcar/first_boot')}",
            lambda: f"search --no-floppy --label --set {name} {self.pick('OEM', 'ROOT', 'NONE')}",
            lambda: f"search --set={name} --fs-uuid {self.pick('4D4C-0001', '4d4c-0001', 'ffff-0000')}",
            lambda: f"insmod {self.pick('test', 'echo', 'none', '')}",
            lambda: f"{self.word()} {self.words()}",
            lambda: f"! {self.pick('echo a', 'no_such_command', 'set v1=1', '')}",
            lambda: f"menuentry {self.word()} --class {self.word()} {{\n\techo {self.words()}{self.end()}}}",
            lambda: f"submenu 's {name}' {{ menuentry x {{ echo {self.words()}; }}; }}",
            lambda: f"cat {self.file()} {self.pick('', '', '--dos', 'x')}",
            lambda: f"ls {self.pick('', '(hd0,gpt1)/', '(hd9)/')}",
            lambda: f"linux {self.file()} {self.pick('a', 'quiet')}",
            lambda: "true",
            lambda: "false",
        )
        return self.random.choice(choices)()

    def block(self, depth: int) -> str:
        return "".join(self.statement(depth) + self.end() for _ in range(1 + self.random.randrange(2)))

    def statement(self, depth: int = 2) -> str:
        if depth == 0 or self.chance(2):
            return self.simple()
        name = f"v{self.random.randrange(10)}"
        below = depth - 1
        kind = self.random.randrange(5)
        if kind == 0:
            made = f"if {self.condition()}{self.end()}then {self.block(below)}"
            if self.chance(3):
                made += f"elif {self.condition()}{self.end()}then {self.block(below)}"
            if self.chance(2):
                made += f"else {self.block(below)}"
            return made + "fi"
        if kind in {1, 2}:
            return f"for {name} in {self.words()}{self.end()}do {self.block(below)}done"
        if kind == 3:
            # The loop's own variable makes it end; nothing else sets it.
            loop = f"w{depth}"
            return f'{loop}=x; while [ "${loop}" != xxx ]; do {loop}=x${loop}{self.end()}{self.block(below)}done'
        loop = f"u{depth}"
        return f'{loop}=x; until [ "${loop}" = xxx ]; do {loop}=x${loop}{self.end()}{self.block(below)}done'

    def script(self) -> str:
        lines = []
        for _ in range(1 + self.random.randrange(2)):
            kind = self.random.randrange(12)
            if kind == 0:
                lines.append(self.pick(*_BROKEN))
            elif kind in {1, 2}:
                # A function calls only functions of a higher number, so that calls end.
                number = self.random.randrange(6)
                body = self.block(1)
                for other in range(number + 1):
                    body = body.replace(f"f{other} ", "echo ")
                gap = self.pick(" ", "\n", " \n ")
                lines.append(f"function f{number}{gap}{{ {body}}}")
                lines.append(f"f{number} {self.words()}")
            else:
                lines.append(self.statement())
        return "\n".join(lines) + self.pick("\n", "\n", "")


def scripts(seed: int | str, count: int) -> dict[str, str]:
    """``count`` scripts by path below the ESP."""
    return {f"torture/{index:03}.cfg": Writer(f"{seed}/{index}").script() for index in range(count)}
