"""What can go wrong in a way the user can mend."""


class PDDError(Exception):
    """A mistake or a state that the user can act on.

    The message names the option or file, the value found and the remedy. The command line prints it
    without a traceback and exits with status 2.
    """


class ConfigError(PDDError):
    """Options that contradict each other, the data or the network."""


class DataError(PDDError):
    """A data set that is missing, unreadable or not of the promised form."""


class ArtifactError(PDDError):
    """A file of a run that is missing, damaged or made under other settings."""


class DivergenceError(PDDError):
    """A distillation that left the domain in which its loss means anything."""


def one_line(text: object) -> str:
    """What an error or a text says, without its line breaks and indentation."""
    return " ".join(str(text).split())
