#!/usr/bin/env python3
"""Makes vectors.json: a chain of two blocks, computed from docs/formats.md with hashlib alone.

It shares nothing with the Go code, so the two check each other. Run it as

    python3 vectors.py > vectors.json
"""
import hashlib
import json
import struct

DIFFICULTY = 12


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def tree_root(leaves):
    """MTH of RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha(b"\x01", tree_root(leaves[:k]), tree_root(leaves[k:]))


def compact(leaves):
    """Roots of the full subtrees, the largest first."""
    nodes, at = [], 0
    for bit in range(len(leaves).bit_length(), -1, -1):
        if len(leaves) >> bit & 1:
            nodes.append(tree_root(leaves[at : at + (1 << bit)]))
            at += 1 << bit
    return nodes


def record(project, time, salt, key, typ, payload):
    k, t = key.encode(), typ.encode()
    encoded = struct.pack(">IQ16sBBI", project, time, salt, len(k), len(t), len(payload)) + k + t + payload
    commit = sha(salt, bytes([len(k)]), k, bytes([len(t)]), t, payload)
    leaf = b"\x01" + struct.pack(">IQI", project, time, len(payload)) + commit
    return {
        "project": project, "time": time, "salt": salt.hex(), "key": key, "type": typ, "payload": payload.hex(),
        "encoded": encoded.hex(), "commit": commit.hex(), "leaf": leaf.hex(), "leaf_hash": sha(b"\x00", leaf).hex(),
    }


def block(number, leaves, prev, time, records):
    first = len(leaves)
    leaves += [bytes.fromhex(r["leaf_hash"]) for r in records]
    root = tree_root(leaves)
    inner_bytes = b"\x02\x01" + struct.pack(">QQI", number, first, len(records)) + prev + root
    inner_bytes += struct.pack(">QB", time, DIFFICULTY)
    inner = sha(inner_bytes)
    nonce = 0
    while int.from_bytes(sha(inner, struct.pack(">Q", nonce)), "big") >> (256 - DIFFICULTY):
        nonce += 1
    block_hash = sha(inner, struct.pack(">Q", nonce))
    header = inner_bytes + struct.pack(">Q", nonce)
    seal = sha(b"\x00", header)
    leaves.append(seal)
    ends, body = b"", b""
    for r in records:
        body += bytes.fromhex(r["encoded"])
        ends += struct.pack(">I", len(body))
    head = struct.pack(">Q", number + 1) + block_hash + struct.pack(">QQ", time, len(leaves)) + b"".join(compact(leaves))
    return {
        "records": records,
        "version": 1, "block": number, "first": first, "count": len(records), "prev": prev.hex(), "root": root.hex(),
        "time": time, "difficulty": DIFFICULTY, "nonce": str(nonce),
        "header": header.hex(), "inner": inner.hex(), "hash": block_hash.hex(), "seal_hash": seal.hex(),
        "encoded": (header + ends + body).hex(),
        "size": len(leaves), "sealed_root": tree_root(leaves).hex(), "head": head.hex(),
    }


def main():
    time, leaves = 1_700_000_000_000, []
    salts = [bytes(range(16 * i, 16 * i + 16)) for i in range(5)]
    one = block(0, leaves, bytes(32), time + 20, [
        record(1, time, salts[0], "", "text/plain", b"hello, chain"),
        record(1, time, salts[1], "order/42", "application/json; charset=utf-8", b'{"n":42}'),
        record(7, time + 9, salts[2], "schl\u00fcssel", "", bytes(range(256)) * 5),  # over 1024 bytes
    ])
    two = block(1, leaves, bytes.fromhex(one["hash"]), time + 1000, [
        record(2**32 - 1, time + 20, salts[3], "k" * 255, "t" * 255, b""),
        record(2, time + 1000, salts[4], "", "application/octet-stream", b"\x00\xff\r\n"),
    ])
    print(json.dumps({"empty_root": tree_root([]).hex(), "blocks": [one, two]}, indent=1))


main()
