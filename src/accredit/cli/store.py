"""``accredit store``: look after the tokens that are kept, without ever showing one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from accredit.cli.arguments import EXAMPLES_FIRST, Parser, add_request_options, scopes
from accredit.cli.common import configuration, open_store
from accredit.cli.exits import FAILED, OK, Stop
from accredit.cli.locate import config_file
from accredit.config import load_configuration
from accredit.config.files import printable
from accredit.config.store import StoreSettings
from accredit.core.registration import token_request_for
from accredit.errors import ConfigurationError
from accredit.registrations import find
from accredit.stores.contract import Entry, ManagedStore, Store

_EPILOG: Final = """\
It is the store of the configuration; where none is configured, the file in your state directory that token, call and
renew use. No command shows a token.

examples:
  accredit store list
  accredit store remove orders --scope orders:write
  accredit store purge
  accredit store keygen --output /etc/accredit/store.key
"""
_HEADINGS: Final = ("REGISTRATION", "PRINCIPAL", "EXPIRES IN", "GENERATION", "KEY ID", "")


def parser() -> Parser:
    """Return the parser of the command."""
    made = Parser(
        prog="accredit store",
        usage="accredit store ACTION [options]",
        description="Look after the tokens that are kept for later runs and other processes.",
        epilog=_EPILOG,
        formatter_class=EXAMPLES_FIRST,
        allow_abbrev=False,
    )
    actions = made.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    listing = actions.add_parser("list", help="what is kept: registration, principal, remaining life, key id")
    listing.add_argument("id", nargs="?", metavar="ID", help="only of that registration")
    listing.add_argument("--json", action="store_true", help="print one JSON object a line")
    removing = actions.add_parser("remove", help="forget the token of one request, and its holds")
    removing.add_argument("id", nargs="?", metavar="ID", help="registration; the default one when left out")
    removing.add_argument("--key", metavar="KEY", help="the key in the store instead, as 'list --json' prints it")
    add_request_options(removing)
    purging = actions.add_parser("purge", help="forget everything that accredit keeps there")
    purging.add_argument("id", nargs="?", metavar="ID", help="only of that registration")
    keygen = actions.add_parser("keygen", help="make a key for encryption")
    keygen.add_argument("--id", metavar="KEY_ID", help="[A-Za-z0-9_-]{1,32}; drawn when left out")
    keygen.add_argument("--output", metavar="FILE", help="write it to a new file that only you can read")
    return made


def run(arguments: Sequence[str], config: str | None) -> int:
    """Run the command; return the exit code."""
    options = parser().parse_args(arguments)
    if options.action == "keygen":
        return _keygen(options)
    if options.action == "remove" and options.key is None:
        return _remove(options, config)
    settings = load_configuration(config_file(config), needs_registration=False).store
    if settings is not None:
        # Nothing here opens a record, so an operator needs no key, and one that was lost hinders nobody who cleans up.
        settings = dataclasses.replace(settings, encryption=())
    store = _opened(settings)
    try:
        match options.action:
            case "list":
                entries = list(_managed(store).entries(registration=options.id))
                if not options.json:
                    _say(f"tokens are kept in {_place(store, settings)}")
                return _list(entries, as_json=options.json)
            case "remove":
                found = _managed(store).remove_key(options.key)
                return _say("removed" if found else "there was nothing under that key")
            case _:
                count = _managed(store).purge(registration=options.id)
                return _say(f"purged {count} token{'' if count == 1 else 's'}")
    finally:
        store.close()


def _keygen(options: argparse.Namespace) -> int:
    from accredit.stores.envelope import generate_key

    text = f"{generate_key(options.id).reveal()}\n"
    if options.output is None:
        sys.stdout.write(text)
        return OK
    problem = None
    try:
        # Never over what is there: it may be the only copy of the key that everything is sealed with.
        descriptor = os.open(Path(options.output), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    del text
    if problem is not None:
        raise Stop(FAILED, "failed", f"the key file {options.output} cannot be written ({problem}).")
    return OK


def _remove(options: argparse.Namespace, config: str | None) -> int:
    loaded, settings = configuration(config)
    request = token_request_for(
        find(loaded, options.id, loaded.default),
        scope=scopes(options),
        resource=options.resource,
        audience=options.audience,
        principal=options.principal,
    )
    store = _opened(settings)
    try:
        there = store.read(request.identity)
        store.remove(request.identity)
    finally:
        store.close()
    return _say("removed" if there is not None else "there was nothing to remove")


def _opened(settings: StoreSettings | None) -> Store:
    store = open_store(settings)
    if store is None:
        raise ConfigurationError(
            "tokens are kept in the memory of each process only.",
            advice='There is nothing to look after, unless url of [store] is something else than "memory:".',
            key="store.url",
        )
    return store


def _managed(store: Store) -> ManagedStore:
    if isinstance(store, ManagedStore):
        return store
    raise ConfigurationError(
        "this kind of store cannot be listed or purged.", advice="Use the tools of its server.", key="store.url"
    )


def _place(store: Store, settings: StoreSettings | None) -> str:
    path = getattr(store, "path", None)
    if path is not None:
        return printable(str(path))
    if settings is None:
        return "the configured store"
    # Without a user name: some write the password there.
    scheme, mark, rest = settings.url.partition("://")
    host, slash, tail = rest.partition("/")
    return printable(f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{tail}")


def _list(entries: Iterable[Entry], *, as_json: bool) -> int:
    if as_json:
        for entry in entries:
            members = entry._asdict()
            members["remaining"] = int(entry.remaining)
            sys.stdout.write(json.dumps(members) + "\n")
        return OK
    rows = [_HEADINGS, *(_row(entry) for entry in entries)]
    if len(rows) == 1:
        return _say("no tokens are kept")
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{line.rstrip()}\n")
    return OK


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        printable(entry.registration),
        printable(entry.principal),
        f"{int(entry.remaining)} s",
        f"{entry.generation >> 32}.{entry.generation & 0xFFFFFFFF:08x}",
        printable(entry.key_id) or "(plaintext)",
        "refused by an API" if entry.suspect else "",
    )


def _say(text: str) -> int:
    sys.stderr.write(f"accredit: {text}\n")
    return OK
