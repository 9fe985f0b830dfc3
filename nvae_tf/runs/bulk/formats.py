"""The files that rows are written to. The same rows give the same bytes.

A column holds bytes (PNG files), texts, numbers, or arrays [B, ...] of numbers.
"""

import io
import json
import tarfile

import numpy as np

from nvae_tf.evaluation.latent_files import write_tfrecord


def _write_webdataset(path, batches):
    """A tar file with 000000017.png for a PNG, 000000017.NAME.npy for an array, 000000017.json for the others."""
    with tarfile.open(path, "w") as file:

        def add(name, content):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))

        for rows in batches:
            for place, number in enumerate(rows["index"]):
                fields = {}
                for name, values in rows.items():
                    value = values[place]
                    if isinstance(value, bytes):
                        add(f"{number:09}.{name}", value)
                    elif np.ndim(value):
                        content = io.BytesIO()
                        np.save(content, value)
                        add(f"{number:09}.{name}.npy", content.getvalue())
                    else:
                        fields[name] = value.item() if isinstance(value, np.generic) else value
                if len(fields) > 1:  # the name already holds the index
                    add(f"{number:09}.json", json.dumps(fields).encode())


def _write_parquet(path, batches):
    """A Parquet file; an array of a row is a list, or Arrow's fixed-shape tensor if it has several dimensions."""
    import pyarrow
    import pyarrow.parquet

    def column(values):
        if np.ndim(values) < 2:
            return pyarrow.array(values)
        if np.ndim(values) == 2:
            return pyarrow.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1])
        return pyarrow.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))

    tables = [pyarrow.table({name: column(values) for name, values in rows.items()}) for rows in batches]
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), path)


# {name: (suffix of a file, function of a path and batches of rows that writes it)}
FORMATS = {
    "webdataset": ("tar", _write_webdataset),
    "parquet": ("parquet", _write_parquet),
    "tfrecord": ("tfrecord", write_tfrecord),
}
