#!/usr/bin/env python3
"""Computes vectors.json: a header of a data key and a message, with nothing but the standard library.

AES (FIPS 197) and GCM (NIST SP 800-38D) are written out, so that nothing is shared with the Go code.
"""

import hashlib
import hmac
import json
import os


def make_sbox():
    p = q = 1
    box = [0] * 256
    while True:
        p = p ^ ((p << 1) & 0xFF) ^ (0x1B if p & 0x80 else 0)
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        if q & 0x80:
            q ^= 0x09
        x = q ^ (q << 1 | q >> 7) ^ (q << 2 | q >> 6) ^ (q << 3 | q >> 5) ^ (q << 4 | q >> 4)
        box[p] = (x ^ 0x63) & 0xFF
        if p == 1:
            break
    box[0] = 0x63
    return box


SBOX = make_sbox()


def xtime(b):
    return ((b << 1) ^ 0x1B) & 0xFF if b & 0x80 else b << 1


def expand(key):
    words = [list(key[i : i + 4]) for i in range(0, 32, 4)]
    rcon = 1
    for i in range(8, 60):
        w = list(words[i - 1])
        if i % 8 == 0:
            w = [SBOX[b] for b in w[1:] + w[:1]]
            w[0] ^= rcon
            rcon = xtime(rcon)
        elif i % 8 == 4:
            w = [SBOX[b] for b in w]
        words.append([a ^ b for a, b in zip(words[i - 8], w)])
    return [sum(words[4 * r : 4 * r + 4], []) for r in range(15)]


def encrypt_block(keys, block):
    s = [a ^ b for a, b in zip(block, keys[0])]
    for r in range(1, 15):
        s = [SBOX[b] for b in s]
        s = [s[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if r < 14:
            mixed = []
            for c in range(0, 16, 4):
                a = s[c : c + 4]
                for i in range(4):
                    x, y = a[i], a[(i + 1) % 4]
                    mixed.append(xtime(x) ^ xtime(y) ^ y ^ a[(i + 2) % 4] ^ a[(i + 3) % 4])
            s = mixed
        s = [a ^ b for a, b in zip(s, keys[r])]
    return bytes(s)


def multiply(x, y):
    z = 0
    for i in range(128):
        if x >> (127 - i) & 1:
            z ^= y
        y = (y >> 1) ^ (0xE1 << 120) if y & 1 else y >> 1
    return z


def seal(key, nonce, plain, additional):
    """AES-256-GCM: the encrypted text and the tag."""
    keys = expand(key)
    h = int.from_bytes(encrypt_block(keys, bytes(16)), "big")
    out = b""
    for i in range(0, len(plain), 16):
        stream = encrypt_block(keys, nonce + (i // 16 + 2).to_bytes(4, "big"))
        out += bytes(a ^ b for a, b in zip(plain[i : i + 16], stream))
    pad = lambda b: b + bytes(-len(b) % 16)
    hashed = pad(additional) + pad(out)
    hashed += (8 * len(additional)).to_bytes(8, "big") + (8 * len(out)).to_bytes(8, "big")
    s = 0
    for i in range(0, len(hashed), 16):
        s = multiply(s ^ int.from_bytes(hashed[i : i + 16], "big"), h)
    tag = encrypt_block(keys, nonce + b"\0\0\0\1")
    return out + bytes(a ^ b for a, b in zip(tag, s.to_bytes(16, "big")))


def hkdf(secret, salt, info):
    prk = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\1", hashlib.sha256).digest()


def main():
    # NIST, "The Galois/Counter Mode of Operation", test case 14.
    assert seal(bytes(32), bytes(12), bytes(16), b"").hex() == (
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    )
    operator = bytes(i * 7 + 3 & 0xFF for i in range(32))
    salt = bytes(range(32))
    data_key = bytes(range(100, 132))
    key_id = hashlib.sha256(b"chainstore at-rest key id" + operator).digest()[:8]
    context = b"CSSG\2\0\0\0" + (7).to_bytes(8, "big")
    wrapping = hkdf(operator, salt, b"chainstore at-rest data key v1")
    header = key_id + salt
    header += seal(wrapping, bytes(12), data_key, context + header)
    nonce = bytes(range(200, 212))
    plain = b"hello, chain, at rest"
    additional = (8192).to_bytes(8, "big") + len(plain).to_bytes(4, "big") + bytes(4)
    vectors = {
        "operator_key": operator.hex(),
        "key_id": key_id.hex(),
        "context": context.hex(),
        "salt": salt.hex(),
        "data_key": data_key.hex(),
        "header": header.hex(),
        "nonce": nonce.hex(),
        "plain": plain.hex(),
        "additional": additional.hex(),
        "message": (nonce + seal(data_key, nonce, plain, additional)).hex(),
    }
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vectors.json")
    with open(path, "w") as f:
        json.dump(vectors, f, indent=1)
        f.write("\n")


main()
