"""What somebody may have meant who wrote a name that there is not. Imports no torch."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from typing import Final

NEAR: Final = 0.6
"""How alike two names must be, from 0 to 1, for one of them to have been meant."""

SLIP: Final = 0.92
"""How alike they are where a letter or two differ."""


def join(names: Iterable[str], word: str = "and") -> str:
    """Names as a sentence lists them.

    Args:
        names: At least one, or "none" is listed.
        word: Before the last one.
    """
    *most, last = list(names) or ["none"]
    return f"{', '.join(most)} {word} {last}" if most else last


def no_option(name: str, known: Iterable[str], lister: str = "pdd-cli fit --help") -> str:
    """A line about an option that there is not, with the one that was meant or where to look.

    Args:
        name: The dotted option, without dashes.
        known: Every dotted option.
        lister: The command that lists them.

    Example:
        >>> no_option("model.iteration", ["model.ipc", "model.iterations"])
        '--model.iteration: there is no such option; did you mean --model.iterations?'
    """
    near = nearest(name, known)
    return f"--{name}: there is no such option; " + (f"did you mean --{near}?" if near else f"`{lister}` lists them")


def no_class_option(option: str, cls: str, name: str, known: Iterable[str]) -> str:
    """A line about an option that a class does not have.

    Args:
        option: The dotted option that takes the class.
        cls: The name of the class.
        name: What was given below the option.
        known: The options of the class.

    Example:
        >>> no_class_option("model.network", "ConvNet", "widht", ["width", "depth"])
        '--model.network.widht: ConvNet has no such option; did you mean --model.network.width? It has width and depth'
    """
    has = list(known)
    near = nearest(name, has)
    meant = f"did you mean --{option}.{near}? It" if near else "it"
    return f"--{option}.{name}: {cls} has no such option; {meant} has {join(has or ['no options'])}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The dotted name that was meant, or None: a slip away, else one that ends in the same word, else the most alike.

    Args:
        name: What was given.
        known: What there is.

    Example:
        >>> nearest("epochs", ["model.ipc", "model.recipe.epochs"])
        'model.recipe.epochs'
    """
    names, word = list(known), name.rpartition(".")[2]
    if slip := get_close_matches(name, names, n=1, cutoff=SLIP):
        return slip[0]
    moved = [each for each in names if each.rpartition(".")[2] == word]
    if moved:  # the section was left out, or is another one
        return max(moved, key=lambda each: SequenceMatcher(None, name, each).ratio())
    words = {each.rpartition(".")[2]: each for each in reversed(names)}
    close = (
        [each for each in names if len(word) > 2 and each.startswith(name)]  # it was shortened
        or get_close_matches(name, names, n=1, cutoff=NEAR)
        # The slip may be in the word, and the section missing.
        or [words[each] for each in get_close_matches(word, words, n=1, cutoff=0.75)]
    )
    return close[0] if close else None
