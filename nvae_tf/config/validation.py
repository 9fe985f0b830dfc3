"""Errors of a configuration, and the rules that raise them."""

import math


class ConfigError(ValueError):
    """An invalid configuration; the message names the field, the value and what was expected."""


# A rule: a description of what is expected, and a function that tells whether a value meets it.
POSITIVE = ("a positive number", lambda value: 0 < value < math.inf)
NOT_NEGATIVE = ("zero or a positive number", lambda value: 0 <= value < math.inf)
BELOW_ONE = ("at least 0 and below 1", lambda value: 0 <= value < 1)


def at_least(least):
    """Rule for numbers of at least `least`."""
    return f"at least {least}", lambda value: value >= least


def one_of(choices):
    """Rule for one of the given words."""
    return f"one of {choices}", choices.__contains__


def of_family(family):
    """Rule for the field `family` of a configuration."""
    return f"{family!r}, the family of the other fields", lambda value: value == family


def require_field(condition, field, received, expected):
    """Raises `ConfigError` unless the condition holds."""
    if not condition:
        raise ConfigError(f"{field}: expected {expected}. Received: {received!r}")


def check_fields(config, prefix, rules):
    """Raises `ConfigError` on the first field that breaks a rule; `rules` are pairs (rule, names of fields)."""
    for (expected, fits), names in rules:
        for name in names:
            value = getattr(config, name)
            require_field(fits(value), f"{prefix}.{name}", value, expected)
