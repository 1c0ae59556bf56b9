"""Add vectors to files of JSON lines, for an import of very many memories.

    python deploy/ray/embed.py --config config.yaml --out parts memories-*.jsonl
    ls parts/*/*.jsonl | xargs -P 4 -n 1 gateway memory import

The lines are those of `gateway memory export`. The configuration is that of the gateway that imports: vectors of its
embedder are taken over as they are.
"""

import argparse
from typing import Any

import ray.data
from parts import LINE, SMALL, add_arguments, start_ray, write_parts


def to_lines(batch: dict[str, Any]) -> dict[str, list[bytes]]:
    return {LINE: [str(text).encode() for text in batch["text"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="files, or addresses such as s3://bucket/folder")
    parser.add_argument("--config", required=True, help="configuration with the embedder, on all nodes")
    add_arguments(parser)
    options = parser.parse_args()
    start_ray(options.address)
    texts = ray.data.read_text(options.files, ray_remote_args={"num_cpus": SMALL})
    lines = texts.map_batches(to_lines, num_cpus=SMALL)
    print(f"{write_parts(lines, options.config, options)} memories are in {options.out}")


if __name__ == "__main__":
    main()
