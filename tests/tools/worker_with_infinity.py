"""One of two workers started by test_multi_worker.py; the batch of worker 1 holds an infinity at one step."""

import json
import sys

import numpy as np

PLANTED_STEP = 2


def main(config_json, run_dir, workers, index):
    from nvae_tf.config import load_config
    from nvae_tf.runs.interruption import Interruption
    from nvae_tf.runs.prepare import prepare
    from nvae_tf.training.distributed.cluster import find_workers
    from nvae_tf.training.distributed.strategy import make_strategy

    strategy = make_strategy("auto", find_workers(workers.split(","), int(index)))
    run = prepare(load_config(config_json), run_dir, None, Interruption(), strategy)
    trainer, found = run.trainer, {}
    advance, variables = trainer.advance, [*trainer.model.variables, *trainer.state["optimizer"].variables]

    def values():
        return [np.array(variable.value) for variable in variables]

    def planted_advance(images, **options):
        if trainer.step != PLANTED_STEP:
            return advance(images, **options)
        images = images.numpy()
        if index == "1":
            images[0, 3, 3, 0] = np.inf
        before = values()
        report = advance(images, **options)
        found["changed"] = not all(np.array_equal(a, b) for a, b in zip(before, values(), strict=True))
        found["loss_scale_before"] = float(report["loss_scale"])
        return report

    trainer.advance = planted_advance
    run.run()
    guards = trainer.state["guards"]
    found["loss_scale_after"] = float(np.array(guards.loss_scale.value))
    found["left_out"] = trainer.num_left_out
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
