"""Checksums, digests and the seal of a checkpoint, from checkpoints/README.md alone: so that a test can forge files."""
import ctypes
import struct
from pathlib import Path

import h5py
import numpy as np

XXHASH = ctypes.CDLL("libxxhash.so.0")


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


XXHASH.XXH3_128bits.restype = Hash128
XXHASH.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh3(data):
    value = XXHASH.XXH3_128bits(data, len(data))
    return f"{value.high:016x}{value.low:016x}"


def seal_of(data):
    """(bytes before the seal, extents) of a sealed file's bytes."""
    count = struct.unpack("<q", data[-16:-8])[0]
    body = len(data) - 48 - 16 * count
    return body, [struct.unpack("<qq", data[body + 16 * i:body + 16 * i + 16]) for i in range(count)]


def unseal(file):
    data = Path(file).read_bytes()
    Path(file).write_bytes(data[:seal_of(data)[0]])


def seal(file):
    """Appends a seal that is right, whatever the file holds."""
    extents = []
    with h5py.File(file) as source:
        def visit(_, item):
            if isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
                extents.append((item.id.get_offset(), item.id.get_storage_size()))
        source.visititems(visit)
    data = Path(file).read_bytes()
    extents = sorted(extent for extent in set(extents) if extent[1] > 0)
    table = b"".join(struct.pack("<qq", *extent) for extent in extents)
    outside, position = [], 0
    for offset, size in extents:
        outside.append(data[position:offset])
        position = offset + size
    outside.append(data[position:])
    digest = xxh3(b"".join(outside) + table)
    Path(file).write_bytes(data + table + digest.encode() + struct.pack("<q", len(extents)) + b"SPLWSEAL")


def spelling(value):
    if isinstance(value, (bytes, str)):
        text = value if isinstance(value, bytes) else value.encode()
        return f"string {len(text)} {text.decode(errors='replace')}"
    if np.issubdtype(type(value), np.floating):
        return f"float64 {struct.unpack('<Q', struct.pack('<d', value))[0]:016x}"
    return f"int64 {int(value)}"


def digest(file):
    """Writes both digests anew, over whatever datasets and attributes the open file has."""
    groups, checksums = {"/": file}, {}
    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            checksums["/" + name] = item.attrs["xxh3"]
        else:
            groups["/" + name] = item
    file.visititems(visit)
    text = lambda value: value.decode() if isinstance(value, bytes) else value
    listing = "".join(f"{path} {text(checksums[path])}\n" for path in sorted(checksums))
    set_text(file, "digest", xxh3(listing.encode()))
    listing = "".join(f"{path} {name} {spelling(groups[path].attrs[name])}\n"
                      for path in sorted(groups) for name in sorted(groups[path].attrs)
                      if path != "/" or name not in ("digest", "attributes_digest"))
    set_text(file, "attributes_digest", xxh3(listing.encode()))


def set_text(item, name, text):
    """An attribute as Spillway stores text: of fixed length, with the terminating zero, UTF-8."""
    data = text.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(data))
    kind.set_cset(h5py.h5t.CSET_UTF8)
    key = name.encode()
    if h5py.h5a.exists(item.id, key):
        h5py.h5a.delete(item.id, key)
    attribute = h5py.h5a.create(item.id, key, kind, h5py.h5s.create(h5py.h5s.SCALAR))
    attribute.write(np.array(data, dtype=f"S{len(data)}"), mtype=kind)
