"""``recuse``: train, attack, certify, compose and report, from the shell.

A problem with what was asked for is one sentence on standard error and exit code 2.
"""

import contextlib
import functools
import inspect
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from tyro.conf import FlagCreatePairsOff
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
)
from tyro.extras import SubcommandApp

from recuse import __version__
from recuse.cli import (
    attack,
    audit,
    build,
    cascade,
    certify,
    compose,
    data,
    evaluate,
    export,
    geometry,
    launched,
    models,
    paper,
    predict,
    records,
    report,
    run,
    serve,
    show,
    sweep,
    train,
    values,
)
from recuse.cli.arguments import readable
from recuse.cli.console import console
from recuse.cli.launched import first_to_tell
from recuse.errors import OutageError, PausedError, RecuseError
from recuse.records.places import place

DESCRIPTION = """Classifiers that answer where they are robust and step aside where they are not.

Start with `recuse run digits`, which trains, attacks and composes models on real digits in minutes
and leaves a report, or with `recuse audit MODEL DATA` on a network of your own. Every command
explains itself with --help."""

GROUPS = {
    "cascade": "Find the best cascade in a pool of judged models.",
    "geometry": "Measure how far classes are apart and how smooth a model is.",
    "data": "List, get and show data sets; cut detection data into classification sets.",
    "models": "List, import and show networks.",
    "records": "Pack, convert, compare and bring together what runs have found.",
}

Verb = Callable[..., None]
Verbs = dict[str, "Verb | Verbs"]


# Every command; a verb imports its heavy parts only when it runs.
VERBS: Verbs = {
    "run": run.run,
    "sweep": sweep.sweep,
    "train": train.train,
    "audit": audit.audit,
    "evaluate": evaluate.evaluate,
    "certify": certify.certify,
    "compose": compose.compose,
    "build": build.build,
    "predict": predict.predict,
    "serve": serve.serve,
    "export": export.export,
    "attack": attack.attack,
    "report": report.report,
    "show": show.show,
    "paper": paper.paper,
    "values": values.values,
    "cascade": {"search": cascade.search},
    "geometry": {"separation": geometry.separation, "lipschitz": geometry.lipschitz},
    "data": {"list": data.list_, "get": data.get, "show": data.show, "crop": data.crop},
    "models": {"list": models.list_, "import": models.import_, "show": models.show},
    "records": {
        "pack": records.pack,
        "upgrade": records.upgrade,
        "hash": records.hash_,
        "gather": records.gather,
    },
}


def deferred(verb: Verb) -> Callable[..., Callable[[], None]]:
    """The verb with its arguments bound but not yet run, so that parsing can be told apart."""

    def bind(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(verb, *args, **kwargs)

    # The parser follows __wrapped__ to the verb's own annotations, so that there must be none.
    functools.update_wrapper(bind, verb)
    del bind.__wrapped__  # type: ignore[attr-defined]
    bind.__signature__ = inspect.signature(verb)  # type: ignore[attr-defined]
    hints = get_type_hints(verb, include_extras=True)
    bind.__annotations__ = {n: readable(hint) for n, hint in hints.items() if n != "return"}
    return bind


PLACES = ConstructorRegistry()


@PLACES.primitive_rule
def _path_or_url(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """How every option that is a path is read: a URL is no folder of this machine."""
    if kind.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: place(words[0]),
        is_instance=lambda found: isinstance(found, Path),
        str_from_instance=lambda found: [str(found)],
    )


def build_app(table: Verbs, *, brief: bool) -> SubcommandApp:
    """The parser of a table of verbs; a nested table is a group of commands.

    Args:
        table: The verbs.
        brief: Describe each by its first line, for a list of all.
    """
    app = SubcommandApp()
    for name, entry in table.items():
        if isinstance(entry, dict):
            app.command(build_app(entry, brief=brief), name=name, help=GROUPS[name])
        else:
            promise = (entry.__doc__ or "").partition("\n")[0] if brief else None
            app.command(name=name, help=promise)(deferred(entry))
    return app


def parse(args: Sequence[str] | None) -> Callable[[], None]:
    """Read the command line.

    Raises:
        ConfigError: A launcher started several processes of what is one.
        SystemExit: With code 2 and one sentence for words that do not fit; 0 after ``--help``.
    """
    words = (sys.argv[1:] if args is None else list(args)) or ["--help"]
    launched.check(words[0])
    if words == ["--version"]:
        return lambda: print(f"recuse {__version__}")
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            call: Callable[[], None] = build_app(VERBS, brief=set(words) <= {"-h", "--help"}).cli(
                args=words,
                description=DESCRIPTION,
                prog="recuse",
                config=(FlagCreatePairsOff,),
                registry=PLACES,
            )
    except SystemExit as stop:
        if stop.code:
            complain(one_sentence(complaint.getvalue()))
        raise
    return call


def complain(sentence: str) -> None:
    """Tell the person at the terminal, on one line however long; of many processes one does."""
    if first_to_tell():
        console.quiet = False
        console.print(f"recuse: {sentence}", markup=False, soft_wrap=True)


# What Python says of text that is no such number.
NUMBERS = {
    r"invalid literal for int\(\) with base 10:": "a whole number",
    "could not convert string to float:": "a number",
}


def one_sentence(text: str) -> str:
    """A parser's framed, multi-line complaint as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip(" │╭╮╰╯") for line in plain.splitlines()]
    kept = [line for line in lines if line and not re.fullmatch(r"[─\s]*|─+ .* ─+", line)]
    told = re.sub(r"[\s─]+", " ", " ".join(kept))
    option = re.search(r"Error parsing (\S+):", told)
    for complaint, number in NUMBERS.items():
        if option and (found := re.search(complaint + " '([^']*)'", told)):
            return f"{option[1]} takes {number}, not {found[1]!r}"
    return told


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, which cleans up on its way out as Ctrl-C does."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM stop the block as Ctrl-C would; in a thread, signals are the caller's."""

    def stop(number: int, frame: object) -> None:
        raise TerminatedError

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; see ``recuse --help``."""
    try:
        with terminable():
            parse(args)()
    except BrokenPipeError:  # whoever read our output has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except RecuseError as error:
        complain(str(error))
        sys.exit(3 if isinstance(error, OutageError | PausedError) else 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror or error}")
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        from recuse.models.inputs import out_of_memory

        if not (isinstance(error, MemoryError) or out_of_memory(error)):
            raise
        complain(
            f"there is not enough memory ({error or 'none left'}); take smaller ones, or fewer"
        )
        sys.exit(2)
    except KeyboardInterrupt as stop:
        complain("stopped; the same command goes on from what is finished")
        sys.exit(3 if isinstance(stop, TerminatedError) else 130)
