"""The one error of the demonstration."""


class DemoError(Exception):
    """The demonstration cannot go on, or something it promises did not hold.

    The message is one sentence for the user, with the way out where there is one.
    """
