#!/usr/bin/env python3
"""Makes vectors.json: a log's key, a receipt, a tlog-proof, an auditor's state and an export, computed from docs/formats.md, RFC 6962, RFC 8032 and C2SP's pages with
hashlib alone, over the chain of chain/testdata/vectors.json (which is made the same way).

It shares nothing with the Go code, so the two check each other. Run it as

    python3 vectors.py > vectors.json
"""
import base64
import hashlib
import json
import os
import struct

ORIGIN = "chainstore/vectors"
SEED = bytes(range(32))


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# Ed25519, RFC 8032, section 5.1: slow and plain.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    x1, y1, x2, y2 = *a, *b
    t = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + t, P - 2, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, P - 2, P) % P


def times(n, point):
    result = (0, 1)
    while n:
        if n & 1:
            result = add(result, point)
        point, n = add(point, point), n >> 1
    return result


def base_point():
    y = 4 * pow(5, P - 2, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x & 1 else x), y


BASE = base_point()


def encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def expand(seed):
    h = hashlib.sha512(seed).digest()
    return int.from_bytes(h[:32], "little") & ~7 & (1 << 254) - 1 | 1 << 254, h[32:]


def public(seed):
    return encode(times(expand(seed)[0], BASE))


def sign(seed, message):
    a, prefix = expand(seed)
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % L
    big_r = encode(times(r, BASE))
    k = int.from_bytes(hashlib.sha512(big_r + public(seed) + message).digest(), "little") % L
    return big_r + ((r + k * a) % L).to_bytes(32, "little")


# The tree, RFC 6962, section 2.1.
def root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else sha(b"")
    k = split(len(leaves))
    return sha(b"\x01", root(leaves[:k]), root(leaves[k:]))


def split(n):
    return 1 << (n - 1).bit_length() - 1


def path(index, leaves):
    if len(leaves) < 2:
        return []
    k = split(len(leaves))
    if index < k:
        return path(index, leaves[:k]) + [root(leaves[k:])]
    return path(index - k, leaves[k:]) + [root(leaves[:k])]


def crc32c(data):
    c = 0xFFFFFFFF
    for byte in data:
        c ^= byte
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    return c ^ 0xFFFFFFFF


def b64(data):
    return base64.b64encode(data).decode()


def key_hash():
    return sha(ORIGIN.encode(), b"\n\x01", public(SEED))[:4]


def checkpoint(leaves):
    text = f"{ORIGIN}\n{len(leaves)}\n{b64(root(leaves))}\n"
    return f"{text}\n\u2014 {ORIGIN} {b64(key_hash() + sign(SEED, text.encode()))}\n"


def receipt(block, offset, leaves):
    r, index, seal = block["records"][offset], block["first"] + offset, block["first"] + block["count"]
    header = {k: block[k] for k in ("version", "block", "first", "count", "prev", "root", "time", "difficulty", "nonce", "hash")}
    return {
        "format": "chainstore-receipt/v1", "origin": ORIGIN, "index": index, "block": block["block"], "offset": offset, "time": r["time"],
        "project_id": r["project"], "size": len(bytes.fromhex(r["payload"])), "key": r["key"], "type": r["type"], "salt": b64(bytes.fromhex(r["salt"])),
        "commit": r["commit"], "leaf": r["leaf_hash"], "leaf_data": b64(bytes.fromhex(r["leaf"])), "header": header,
        "record_path": [h.hex() for h in path(index, leaves[:seal])], "seal_index": seal, "seal_path": [h.hex() for h in path(seal, leaves)],
        "tree_size": len(leaves), "root": root(leaves).hex(), "checkpoint": checkpoint(leaves),
    }


def part(kind, data):
    p = struct.pack(">BI", kind, len(data)) + data
    return p + struct.pack(">I", crc32c(p))


def main():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../chain/testdata/vectors.json")) as f:
        blocks = json.load(f)["blocks"]
    leaves = []
    for b in blocks:
        leaves += [bytes.fromhex(r["leaf_hash"]) for r in b["records"]] + [bytes.fromhex(b["seal_hash"])]
    vkey = f"{ORIGIN}+{key_hash().hex()}+{b64(bytes([1]) + public(SEED))}"
    last, index = blocks[-1], 1
    export = b"CSEX\x01\0\0\0" + part(1, struct.pack(">QQ", 3, 9) + b"g") + part(2, vkey.encode()) + part(3, checkpoint(leaves).encode())
    export += b"".join(part(4, bytes.fromhex(b["encoded"])) for b in blocks)
    export += part(255, struct.pack(">QQ", len(blocks), len(leaves)) + bytes.fromhex(last["hash"]) + root(leaves))
    proof = "c2sp.org/tlog-proof@v1\n" + f"index {index}\n" + "".join(b64(h) + "\n" for h in path(index, leaves)) + "\n" + checkpoint(leaves)
    state = {
        "format": "chainstore-verify-state/v1", "origin": ORIGIN, "checkpoint": checkpoint(leaves), "height": len(blocks), "size": len(leaves),
        "hash": last["hash"], "root": root(leaves).hex(), "head": b64(bytes.fromhex(last["head"])), "unchecked": [],
    }
    print(json.dumps({
        "vkey": vkey, "payload": blocks[0]["records"][index]["payload"], "receipt": receipt(blocks[0], index, leaves),
        "proof": proof, "state": state, "export": export.hex(),
    }, indent=1, ensure_ascii=False))


main()
