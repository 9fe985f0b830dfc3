"""Progress of long-running work: a bar on a terminal, a few plain lines elsewhere."""

import sys
import time

import tqdm

_LINES = 10


class Progress:
    """Progress over `total` images, called with the number of images done; `initial` of them were done before."""

    def __init__(self, total, initial=0):
        self.total, self.initial = total, initial
        self.printed = initial * _LINES // total
        self.bar, self.first = None, None

    def __call__(self, done):
        now = time.monotonic()
        self.first = self.first or (now, done)
        if self.bar is None and sys.stderr.isatty():
            self.bar = tqdm.tqdm(total=self.total, initial=self.initial, unit="image")
        if self.bar is not None:
            self.bar.update(done - self.bar.n)
            if done == self.total:
                self.bar.close()
        elif done * _LINES // self.total > self.printed:
            self.printed = done * _LINES // self.total
            # Without the first call, before which programs load, trace and start processes.
            seconds, images = now - self.first[0], done - self.first[1]
            rate = f", {images / seconds:.4g} images/s" if images and seconds else ""
            print(f"{done}/{self.total} images{rate}", file=sys.stderr, flush=True)
