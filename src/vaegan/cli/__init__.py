"""The command `vaegan`: one verb a job. Results go to stdout, chatter to stderr.

Verbs are registered by name, so that `vaegan --help` imports neither torch nor matplotlib.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, get_args

from cyclopts import App, CoercionError, CycloptsError, Group, Parameter, Token, convert

from vaegan import __version__
from vaegan.errors import VaeganError

__all__ = ["app", "main"]

VERBS = {
    "Data": {
        "data prepare": ("data:prepare", "Images to arrays on disk, once; resumable."),
    },
    "Train": {
        "train": ("train:train", "Train a system on a data set, or go on with a run."),
    },
    "Use a trained run": {
        "reconstruct": ("pictures:reconstruct", "Test images above, reconstructions below."),
        "sample": ("sample:sample", "Draw new images from the prior, by label."),
        "transfer": ("pictures:transfer", "Render the style of images in every class."),
        "manifold": ("pictures:manifold", "A grid of images over two latent dimensions."),
        "interpolate": ("pictures:interpolate", "From one image to another through the code."),
        "latents": ("pictures:latents", "Where the encoder puts the test images."),
        "film": ("films:film", "The manifold through training, as MP4 and WebP."),
    },
    "Measure": {
        "evaluate": ("evaluate:evaluate", "Samples, reconstructions, transfer, latents, metric."),
        "compare": ("compare:compare", "The whole ladder on one budget: one table, one picture."),
    },
    "See everything": {
        "figures": ("report:figures", "Draw every picture and film of a run."),
        "report": ("report:report", "One self-contained HTML page about a run."),
    },
}


FAMILIES = {"data": "Data sets on disk: prepare."}
"""What stands before the verbs of two words."""


def app(asked: str | None = None) -> App:
    """The command-line application; the verb `asked` for shows its own, full help."""
    application = App(
        name="vaegan",
        version=__version__,
        help=(
            "Train conditional autoencoders with a learned metric, then reconstruct, sample and "
            "transfer style.\n\n"
            "Begin with: `vaegan train --data digits --minutes 2 --outdir runs/first`, then "
            "`vaegan figures runs/first`."
        ),
        help_format="markdown",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(converter=converted),
    )
    families: dict[str, App] = {}
    for place, (title, verbs) in enumerate(VERBS.items()):
        group = Group(title, sort_key=place)
        for verb, (where, summary) in verbs.items():
            short = None if verb == asked else summary
            family, _, name = verb.rpartition(" ")
            if family and family not in families:
                families[family] = App(name=family, help=FAMILIES[family], group=group)
                application.command(families[family])
            home = families.get(family, application)
            home.command(f"vaegan.cli.{where}", name=name, group=group, help=short)
    return application


def converted(kind: Any, tokens: Sequence[Token]) -> Any:
    """The value of a flag; CoercionError for a fraction where a whole number is asked for."""
    if kind is int or int in get_args(kind):
        for token in tokens:
            if "." in token.value:
                raise CoercionError(f'"{token.value}" is no whole number.', token=token)
    return convert(kind, tokens)


def verb_of(arguments: Sequence[str]) -> str | None:
    """The verb that a command line begins with, of one word or two; None where it has none."""
    known = [verb for verbs in VERBS.values() for verb in verbs]
    return next((verb for verb in known if verb.split() == [*arguments[: len(verb.split())]]), None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit code 2 and one line on stderr for everything a user can mend."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        outcome = app(verb_of(arguments))(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        _fail(f"{error}".strip().replace("\n", " "))
    except VaeganError as error:
        _fail(str(error))
    except OSError as error:
        from vaegan.files import remedy

        _fail(f"{error.filename or 'cannot write'}: {remedy(error)}")
    except KeyboardInterrupt:
        print("vaegan: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(outcome if isinstance(outcome, int) else 0)


def _fail(message: str) -> None:
    rank = int(os.environ.get("RANK", "0"))  # one of several processes under torchrun
    print(f"vaegan{f' (rank {rank})' if rank else ''}: {message}", file=sys.stderr)
    sys.exit(2)
