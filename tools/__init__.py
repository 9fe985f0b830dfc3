"""The programs; run them as `python tools/NAME.py` or `python -m tools.NAME`."""
