"""The programs; run them as `python tools/NAME.py`."""
