"""Policies written as TOML: what a file says, and the line that an error names."""

from __future__ import annotations

import re

import pytest

from measlog.appraisal import AllOf, AnyOf, Policy, flatcar
from measlog.appraisal.argument_tables import load_arguments
from measlog.appraisal.policy import leaves
from measlog.appraisal.policy_file import load_policy
from measlog.appraisal.rules.boot_path import BootPaths
from measlog.appraisal.rules.boundaries import HandOver, Separators
from measlog.appraisal.rules.secure_boot import SecureBoot
from measlog.errors import PolicyError
from measlog.flatcar.cmdline import ArgumentModel, ArgumentRule

GOOD = """\
format = "measlog.policy/1"
name = "our fleet"
use = "flatcar"
secure_boot = true
allowed_arguments = ["flatcar.autologin"]
minimum_sbat = { shim = 4 }
"""

COMPOSED = """\
format = "measlog.policy/1"
name = "composed"
required = [7]

[[rule]]
kind = "separators"

[[rule]]
kind = "any-of"

[[rule.rules]]
kind = "secure-boot"
enabled = true

[[rule.rules]]
kind = "secure-boot"
enabled = false
"""


RULED = """\
format = "measlog.policy/1"
name = "our fleet"
use = "flatcar"

[[arguments]]
name = "flatcar.autologin"
pattern = "tty[0-9]+"

[[arguments]]
name = "console"
values = ["tty1", "ttyS0,115200n8"]
repeat = true
override = true
"""
RULES = [
    ArgumentRule(name="flatcar.autologin", pattern="tty[0-9]+"),
    ArgumentRule(name="console", values=["tty1", "ttyS0,115200n8"], repeat=True, override=True),
]
INLINE = """\
format = "measlog.policy/1"
name = "our fleet"
use = "flatcar"
arguments = [{name = "quiet"}, {name = "x", pattern = "(" }]
"""
ORDERED = """\
format = "measlog.arguments/1"

[arguments]
ordered = true

[[arguments.rules]]
name = "a"

[[arguments.rules]]
name = "b"
"""
IN_A_RULE = """\
format = "measlog.policy/1"
name = "composed"
required = [8]

[[rule]]
kind = "boot-path"

[[rule.arguments]]
name = "quiet"
"""


def test_a_file_has_rules_for_arguments() -> None:
    assert load_policy(RULED.encode()).rule == flatcar(arguments=RULES).rule
    assert load_policy(INLINE.replace("(", "1").encode()).rule == flatcar(
        arguments=[ArgumentRule(name="quiet"), ArgumentRule(name="x", pattern="1")]
    ).rule  # fmt: skip
    quiet = ArgumentModel(rules=[ArgumentRule(name="quiet")])
    assert load_policy(IN_A_RULE.encode()).rule == AllOf((BootPaths(arguments=quiet),))
    alone = RULED.replace("policy/1", "arguments/1").replace('name = "our fleet"\nuse = "flatcar"\n', "")
    assert load_arguments(alone.encode()) == ArgumentModel(rules=RULES)
    rules = [ArgumentRule(name="a"), ArgumentRule(name="b")]
    assert load_arguments(ORDERED.encode()) == ArgumentModel(rules=rules, ordered=True)
    for text in (ORDERED.replace("true", "false"), ORDERED.replace("ordered = true\n", "")):
        assert load_arguments(text.encode()) == ArgumentModel(rules=rules, ordered=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RULED.replace("repeat = true", "repeat = 1"), "line 12: repeat must be true or false"),
        (
            RULED.replace('"tty[0-9]+"', '"("'),
            "line 7: the pattern '(' is no regular expression: missing ), unterminated subpattern at position 0",
        ),
        (RULED.replace('"tty[0-9]+"', "1"), "line 7: pattern must be a text"),
        (RULED.replace('["tty1", "ttyS0,115200n8"]', '"tty1"'), "line 11: values must be a list of texts"),
        (
            RULED.replace('"tty1"', '"tty1 x"'),
            "line 11: b'tty1 x' is not the value of an argument: white space and quotes are not admitted",
        ),
        (RULED.replace('name = "console"\n', ""), "line 9: the rule of an argument needs its name"),
        (RULED.replace('"console"', '"--"'), "line 10: b'--' is not the name of an argument"),
        (RULED.replace("override", "overrides"), "line 13: the rule of an argument has no parameter overrides"),
        (
            RULED.partition("[[")[0] + "arguments = 3\n",
            "line 5: arguments must be a list of tables with the name of an argument in each",
        ),
        (
            RULED.partition("[[")[0] + "arguments = []\n",
            "line 5: arguments must be a list of tables with the name of an argument in each",
        ),
        (
            RULED.partition("[[")[0] + "arguments = ['quiet']\n",
            "line 5: arguments must be a list of tables with the name of an argument in each",
        ),
        (
            RULED.partition("[[")[0] + "[arguments]\nordered = 1\n",
            "line 5: arguments has rules, and ordered = true or false, not ordered",
        ),
        (
            RULED.partition("[[")[0] + "[arguments]\nrule = []\n",
            "line 5: arguments has rules, and ordered = true or false, not rule",
        ),
        (RULED + '[[arguments]]\nname = "x"\n' * 255, "line 5: more than 256 rules for arguments"),
        (INLINE.replace('"quiet"', "1"), "line 4: name must be a text"),
        (RULED.replace('name = "console"', '"n\\u0061me" = 1'), "line 9: name must be a text"),
        (INLINE, "line 4: the pattern '(' is no regular expression: missing ), unterminated subpattern at position 0"),
        (IN_A_RULE.replace('"quiet"', "1"), "line 9: name must be a text"),
        (IN_A_RULE.replace("boot-path", "separators"), "line 8: the rule separators has no parameter arguments"),
    ],
)
def test_an_error_in_rules_names_its_line(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=f"^{re.escape(message)}$"):
        load_policy(text.encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RULED, "format must be 'measlog.arguments/1'"),
        (ORDERED + "[more]\n", "more is not known here"),
        ('format = "measlog.arguments/1"\n', "arguments must be a list of tables with the name of an argument in each"),
        ("\n= 3", "not TOML"),
    ],
)
def test_an_error_in_a_file_of_rules(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=f"^{re.escape(message)}($|:)"):
        load_arguments(text.encode())


def test_a_file_names_a_published_policy() -> None:
    expected = flatcar(allowed_arguments=["flatcar.autologin"], minimum_sbat={"shim": 4})
    policy = load_policy(GOOD.encode())
    assert (policy.rule, policy.required, policy.name) == (expected.rule, expected.required, "our fleet")


def test_a_file_composes_rules() -> None:
    policy = load_policy(COMPOSED.encode())
    rules = AllOf((Separators(), AnyOf((SecureBoot(enabled=True), SecureBoot(enabled=False)))))
    assert policy == Policy(name="composed", rule=rules, required={7})
    rules = AllOf((Separators(), AllOf((SecureBoot(enabled=True), SecureBoot(enabled=False)))))
    assert load_policy(COMPOSED.replace("any-of", "all-of").encode()).rule == rules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "format must be 'measlog.policy/1'"),
        ("format = 'measlog.policy/2'\nname='x'\nuse='flatcar'", "line 1: format must be 'measlog.policy/1'"),
        (GOOD.replace('"our fleet"', "3"), "line 2: name must be a text"),
        (GOOD.replace('"flatcar"\n', '"flatcat"\n'), "line 3: there is no policy 'flatcat'; there is flatcar"),
        (GOOD.replace("true", "1"), "line 4: secure_boot must be true or false"),
        (
            GOOD.replace('["flatcar.autologin"]', '"flatcar.autologin"'),
            "line 5: allowed_arguments must be a list of strings",
        ),
        (GOOD.replace("shim = 4", "shim = -4"), "line 6: minimum_sbat must be a table of component names with numbers"),
        (GOOD + "secureboot = false\n", "line 7: the policy flatcar has no parameter secureboot"),
        (GOOD + "minimum_dbx = ['00']\n", "line 7: minimum_dbx must be a list of SHA-256 digests in hex"),
        (GOOD + "pcrs = [1]\n", "line 7: the policy flatcar has no parameter pcrs"),
        (COMPOSED.replace("required = [7]\n", ""), "required must list the registers that a reference must cover"),
        (COMPOSED.replace("[7]", "[24]"), "line 3: required must be a list of registers from 0 to 23"),
        (
            COMPOSED.replace('"separators"', '"separator"'),
            "line 6: there is no rule 'separator'; there are all-of, any-of, bank-consistent, bank-measured, boot-path, event-hashed, hand-over, log-sound, open-ended, platform, secure-boot, separators, unified-boot, unsafe-accept-all, untouched",
        ),
        (COMPOSED.replace("enabled = true", "enable = true"), "line 13: the rule secure-boot has no parameter enable"),
        (COMPOSED + "[[rule]]\nkind = 'any-of'\n", "line 5: a policy without [[rule]] tables would accept everything"),
        (COMPOSED + "[[rule]]\nkind = 'untouched'\n", "line 19: the rule untouched needs pcrs"),
        (
            "format = 'measlog.policy/1'\nname = 'x'\nrequired = [4]\n",
            "a policy without [[rule]] tables would accept everything",
        ),
        (
            "format = 'measlog.policy/1'\nname = 'x'\nrequired = [4]\nrule = 3\n",
            "line 4: a policy without [[rule]] tables would accept everything",
        ),
        (COMPOSED.replace("required", "demanded = 1\nrequired"), "line 3: demanded is not known here"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=f"^{re.escape(message)}$"):
        load_policy(text.encode())


def test_hostile_files() -> None:
    for start, line in ((b"", 1), (b"\n", 2), (b"\n\n# \n", 4)):
        with pytest.raises(PolicyError, match=f"^line {line}: not UTF-8$"):
            load_policy(start + b"\xff\n\xff")
    for load, what in ((load_policy, "policy"), (load_arguments, "model of arguments")):
        with pytest.raises(PolicyError, match=r"^format must be"):
            load(b"#" * (1 << 20))
        with pytest.raises(PolicyError, match=f"^a {what} of 1048577 bytes is larger than 1048576$"):
            load(b"#" * ((1 << 20) + 1))
    with pytest.raises(PolicyError, match=r"^not TOML: .*at line 7"):
        load_policy((GOOD + "a = = 1\n").encode())
    with pytest.raises(PolicyError):
        load_policy(b"a = " + b"[" * 5000 + b"]" * 5000)


def test_hand_over_takes_its_parameter_from_a_file() -> None:
    text = 'format = "measlog.policy/1"\nname = "x"\nrequired = [5]\n[[rule]]\nkind = "hand-over"\n'
    assert load_policy(f"{text}allow_failed_attempts = false".encode()).rule == AllOf((HandOver(False),))


def with_parameter(kind: str, text: str) -> Policy:
    return load_policy(
        f'format = "measlog.policy/1"\nname = "x"\nrequired = [5]\n[[rule]]\nkind = "{kind}"\n{text}\n'.encode()
    )


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("secure-boot", "enabled = false", False),
        ("secure-boot", f"minimum_dbx = ['{bytes(range(32)).hex()}']", frozenset({bytes(range(32))})),
        ("secure-boot", "minimum_dbx = []", frozenset()),
        ("secure-boot", "minimum_sbat = {shim = 0}", {"shim": 0}),
        ("secure-boot", "severity = 'warning'", "warning"),
        ("secure-boot", "severity = 'info'", "info"),
        ("secure-boot", "severity = 'error'", "error"),
        ("boot-path", "oem_grub_cfg = ['set a=\u00e4']", (b"set a=\xc3\xa4",)),
        ("boot-path", "allowed_arguments = ['a', 'b']", ("a", "b")),
        ("untouched", "pcrs = [0, 23]", (0, 23)),
        ("open-ended", "pcrs = [15, 10]", (15, 10)),
        ("unified-boot", "phases = ['enter-initrd']", ("enter-initrd",)),
    ],
)
def test_a_parameter_is_kept_as_it_is_written(kind: str, text: str, value: object) -> None:
    (rule,) = leaves(with_parameter(kind, text).rule)
    found = getattr(rule, text.partition(" ")[0])
    assert (found, type(found)) == (value, type(value))


SHA256_DIGESTS = "minimum_dbx must be a list of SHA-256 digests in hex"
NUMBERS = "minimum_sbat must be a table of component names with numbers"
REGISTERS = "pcrs must be a list of registers from 0 to 23"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("secure-boot", "enabled = 1", "enabled must be true or false"),
        ("secure-boot", "enabled = 'true'", "enabled must be true or false"),
        ("secure-boot", f"minimum_dbx = ['{bytes(31).hex()}']", SHA256_DIGESTS),
        ("secure-boot", f"minimum_dbx = ['{bytes(32).hex()}', '{bytes(33).hex()}']", SHA256_DIGESTS),
        ("secure-boot", f"minimum_dbx = ['{'zz' * 32}']", SHA256_DIGESTS),
        ("secure-boot", "minimum_dbx = [1]", "minimum_dbx must be a list of strings"),
        ("secure-boot", "minimum_sbat = {shim = 1, grub = true}", NUMBERS),
        ("secure-boot", "minimum_sbat = {shim = 1, grub = '1'}", NUMBERS),
        ("secure-boot", "minimum_sbat = ['shim']", NUMBERS),
        ("secure-boot", "severity = 'fatal'", "severity must be error, warning or info"),
        ("secure-boot", "severity = ['error']", "severity must be error, warning or info"),
        ("boot-path", "allowed_arguments = ['a', 1]", "allowed_arguments must be a list of strings"),
        ("boot-path", "allowed_arguments = {a = 1}", "allowed_arguments must be a list of strings"),
        ("untouched", "pcrs = []", REGISTERS),
        ("untouched", "pcrs = [4, 24]", REGISTERS),
        ("untouched", "pcrs = [-1, 4]", REGISTERS),
        ("untouched", "pcrs = [4, true]", REGISTERS),
        ("untouched", "pcrs = 4", REGISTERS),
        ("open-ended", "pcrs = '4'", REGISTERS),
    ],
)
def test_a_parameter_that_is_not_understood_is_refused(kind: str, text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=f"^line 6: {message}$"):
        with_parameter(kind, text)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        # What a rule itself refuses, by the line of its kind.
        ("open-ended", "pcrs = [4]", "line 5: PCR 4 cannot be open-ended: it is what the boot is judged by"),
        ("open-ended", "", "line 5: the rule open-ended needs pcrs"),
        ("separators", "[[rule]]\nkind = 'open-ended'", "line 7: the rule open-ended needs pcrs"),
        (
            "separators",
            "[[rule]]\nkind = 'open-ended'\npcrs = [4]",
            "line 7: PCR 4 cannot be open-ended: it is what the boot is judged by",
        ),
        ("all-of", "code = 1", "line 4: a policy without [[rule]] tables would accept everything"),
        ("all-of", "rules = []", "line 4: a policy without [[rule]] tables would accept everything"),
        ("all-of", "rules = [1]", "line 4: a policy without [[rule]] tables would accept everything"),
        ("all-of", "rules = [{kind = 'separators'}]\nx = 1", "line 7: all-of has no parameter x"),
        ("any-of", "rules = [{kind = 'separators'}]\nx = 1", "line 7: any-of has no parameter x"),
        # Neither code nor sentence nor registers of a rule are the file's to say.
        ("separators", "code = 'x'", "line 6: the rule separators has no parameter code"),
        ("separators", "sentence = 'x'", "line 6: the rule separators has no parameter sentence"),
        ("separators", "registers = [1]", "line 6: the rule separators has no parameter registers"),
        # A line is found behind spaces, quotes and the names of tables.
        ("separators", "  'nothing'  =  1", "line 6: the rule separators has no parameter nothing"),
        ("separators", '"nothing" = 1', "line 6: the rule separators has no parameter nothing"),
        ("separators", "[ rule.nothing ]\na = 1", "line 6: the rule separators has no parameter nothing"),
        ("separators", "anothing = 1", "line 6: the rule separators has no parameter anothing"),
        ("separators", "x = 1\nnothing.a = 1", "line 6: the rule separators has no parameter x"),
    ],
)
def test_what_a_rule_refuses_has_its_line(kind: str, text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=f"^{re.escape(message)}$"):
        with_parameter(kind, text)


def test_a_kind_that_is_no_text() -> None:
    text = 'format = "measlog.policy/1"\nname = "x"\nrequired = [5]\n[[rule]]\nkind = ["separators"]\n'
    with pytest.raises(
        PolicyError, match=r"^line 5: there is no rule \['separators'\]; there are all-of, any-of, bank-"
    ):
        load_policy(text.encode())
    with pytest.raises(PolicyError, match=r"^line 3: there is no policy 3; there is flatcar$"):
        load_policy(b'format = "measlog.policy/1"\nname = "x"\nuse = 3\n')
    with pytest.raises(PolicyError, match=r"^line 3: there is no policy \['flatcar'\]; there is flatcar$"):
        load_policy(b'format = "measlog.policy/1"\nname = "x"\nuse = ["flatcar"]\n')
    with pytest.raises(PolicyError, match=r"^there is no rule None; there are all-of, "):
        load_policy(b'format = "measlog.policy/1"\nname = "x"\nrequired = [5]\n[[rule]]\nx = 1\n')


def test_the_name_of_a_policy() -> None:
    for length, fits in ((0, False), (1, True), (256, True), (257, False)):
        text = GOOD.replace("our fleet", "x" * length).encode()
        if fits:
            assert load_policy(text).name == "x" * length
        else:
            with pytest.raises(PolicyError, match=r"^line 2: name must be a text$"):
                load_policy(text)
    with pytest.raises(PolicyError, match=r"^name must be a text$"):
        load_policy(b'format = "measlog.policy/1"\nuse = "flatcar"\n')


@pytest.mark.parametrize("key", ["enabled", "pcrs", "allow_failed_attempts", "severity", "format", "code"])
def test_parameters_of_single_rules_are_none_of_the_published_policy(key: str) -> None:
    text = GOOD.replace("secure_boot = true", f"{key} = true").replace('format = "m', 'format = "m')
    with pytest.raises(PolicyError) as caught:
        load_policy(text.encode())
    assert str(caught.value) in {
        f"line 4: the policy flatcar has no parameter {key}",
        "not TOML: Cannot overwrite a value (at line 4, column 14)",
    }


@pytest.mark.parametrize(("depth", "fits"), [(7, True), (8, True), (9, False)])
def test_rules_are_nested_eight_deep(depth: int, fits: bool) -> None:
    tables = "".join(f"[[rule{'.rules' * i}]]\nkind = 'all-of'\n" for i in range(depth))
    text = f"""format = "measlog.policy/1"\nname = "x"\nrequired = [5]
{tables}[[rule{".rules" * depth}]]\nkind = 'separators'\n""".encode()
    if fits:
        assert [type(r) for r in leaves(load_policy(text).rule)] == [Separators]
    else:
        with pytest.raises(PolicyError, match=r"^line 6: rules are nested more than 8 deep$"):
            load_policy(text)


def test_two_models_in_one_file_keep_their_lines() -> None:
    """Tables are numbered through the file: an error in the second model is not shown in the first."""
    rule = "[[rule]]\nkind = 'boot-path'\n[[rule.arguments]]\nname = 'a'\n[[rule.arguments]]\nname = 'b'\n"
    head = 'format = "measlog.policy/1"\nname = "x"\nrequired = [8]\n'
    models = [r.arguments for r in leaves(load_policy((head + rule + rule).encode()).rule) if isinstance(r, BootPaths)]
    assert models == [ArgumentModel(rules=[ArgumentRule(name="a"), ArgumentRule(name="b")])] * 2
    for wrong, line in (("'a'", 7), ("'b'", 9)):
        text = head + rule.replace(wrong, "1") + rule
        with pytest.raises(PolicyError, match=f"^line {line}: name must be a text$"):
            load_policy(text.encode())
        text = head + rule + rule.replace(wrong, "1")
        with pytest.raises(PolicyError, match=f"^line {line + 6}: name must be a text$"):
            load_policy(text.encode())


@pytest.mark.parametrize(("number", "fits"), [(256, True), (257, False)])
def test_a_model_has_at_most_256_rules(number: int, fits: bool) -> None:
    tables = "".join(f"[[arguments]]\nname = 'a{i}'\n" for i in range(number))
    text = f'format = "measlog.arguments/1"\n{tables}'.encode()
    if fits:
        assert len(load_arguments(text).rules) == number
        assert load_arguments(text).ordered is False
    else:
        with pytest.raises(PolicyError, match=r"^line 2: more than 256 rules for arguments$"):
            load_arguments(text)
