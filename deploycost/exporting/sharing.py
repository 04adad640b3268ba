"""Files that several bundles hold alike, kept on the disk once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from serving.bundle import Bundle, open_bundle
from serving.errors import BundleError


def share_files(bundle: Bundle, neighbours: Iterable[Path]) -> int:
    """Puts a link in the place of each file of a bundle that one of the neighbouring bundles holds too.

    The tokenizer is every artifact's, and one file of weights serves OpenVINO in fp32 and in bf16. A bundle is sealed
    and never written to again, so that nobody can tell a link from a copy; where the disk has no links, copies stay.

    Returns:
        How many bytes are shared.
    """
    wanted = dict(bundle.manifest.files)
    shared_bytes = 0
    for folder in neighbours:
        try:
            held = open_bundle(folder).manifest.files
        except BundleError:
            continue  # being written, or damaged
        for name, seal in list(wanted.items()):
            twin = next((other for other, its_seal in held.items() if its_seal == seal), None)
            if twin is not None and _link(folder / twin, bundle.folder / name):
                shared_bytes += seal.size_bytes
                del wanted[name]
    return shared_bytes


def _link(source: Path, target: Path) -> bool:
    """Whether `target` is now the same file as `source`."""
    temporary = target.with_name(f".{target.name}.link")
    try:
        os.link(source, temporary)
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        return False
    return True
