"""The one base of all errors that a user can mend."""


class UserError(ValueError):
    """Bad config, data, model or storage. The message says what is wrong, where, and how to mend it.

    The command line prints it without a traceback; everything else that goes wrong keeps its traceback.
    """
