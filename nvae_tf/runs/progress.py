"""Progress of long-running work: a bar on a terminal, a few plain lines elsewhere."""

import sys

import tqdm

_LINES = 10


class Progress:
    """Progress over `total` images, called with the number of images done."""

    def __init__(self, total):
        self.total = total
        self.printed = 0
        self.bar = None

    def __call__(self, done):
        if self.bar is None and sys.stderr.isatty():
            self.bar = tqdm.tqdm(total=self.total, unit="image")
        if self.bar is not None:
            self.bar.update(done - self.bar.n)
            if done == self.total:
                self.bar.close()
        elif done * _LINES // self.total > self.printed:
            self.printed = done * _LINES // self.total
            print(f"{done}/{self.total} images", file=sys.stderr, flush=True)
