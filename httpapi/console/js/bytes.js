// Encodings of bytes: hex, base64, and the big endian integers of docs/formats.md.

export const utf8 = (text) => new TextEncoder().encode(text);

export const toHex = (data) => Array.from(data, (b) => b.toString(16).padStart(2, '0')).join('');

export function fromHex(text) {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new Error(`not hex: ${text}`);
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export const fromBase64 = (text) => Uint8Array.from(atob(text ?? ''), (c) => c.charCodeAt(0));

export function concat(...parts) {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

export const u8 = (n) => Uint8Array.of(n);

export function u32(n) {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, n);
  return out;
}

/** u64 encodes a number, or a decimal string for values that may exceed 2^53. */
export function u64(n) {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(n));
  return out;
}

/** leadingZeroBits counts the zero bits that bytes start with. */
export function leadingZeroBits(data) {
  let bits = 0;
  for (const byte of data) {
    if (byte !== 0) return bits + Math.clz32(byte) - 24;
    bits += 8;
  }
  return bits;
}
