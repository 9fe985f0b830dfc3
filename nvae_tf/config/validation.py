"""Errors of a configuration, and the checks that raise them."""


class ConfigError(ValueError):
    """A configuration that cannot work; the message names the field, the value and what was expected."""


def require(condition, field, received, expected):
    if not condition:
        raise ConfigError(f"{field}: expected {expected}. Received: {received!r}")


def require_at_least(config, prefix, least, *names):
    for name in names:
        value = getattr(config, name)
        require(value >= least, f"{prefix}.{name}", value, f"at least {least}")
