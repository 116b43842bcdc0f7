// SHA-256 (FIPS 180-4) for pages in which a browser does not offer WebCrypto: those from another machine over plain
// HTTP.

// The first 32 bits of the fractional parts of the cube and square roots of the first primes, FIPS 180-4 sections 4.2.2
// and 5.3.3.
const primes = [];
for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);

/**
 * fraction is floor(2^32 · the fractional part of p^(1/power)). It uses integers, because floating point is not precise
 * enough for cube roots.
 */
function fraction(p, power) {
  const target = BigInt(p) << BigInt(32 * power);
  let root = 0n;
  for (let bit = 1n << 36n; bit > 0n; bit >>= 1n) {
    if ((root + bit) ** BigInt(power) <= target) root += bit;
  }
  return Number(root & 0xffffffffn);
}

const rounds = Uint32Array.from(primes, (p) => fraction(p, 3));
const start = Uint32Array.from(primes.slice(0, 8), (p) => fraction(p, 2));

const turn = (x, n) => (x >>> n) | (x << (32 - n));

/** pad adds the 1 bit, zeros, and the length in bits, up to a multiple of 64 bytes. */
function pad(data) {
  const padded = new Uint8Array(Math.ceil((data.length + 9) / 64) * 64);
  padded.set(data);
  padded[data.length] = 0x80;
  new DataView(padded.buffer).setBigUint64(padded.length - 8, BigInt(data.length) * 8n);
  return new DataView(padded.buffer);
}

/** sha256 returns the hash of bytes, 32 bytes. */
export function sha256(data) {
  const view = pad(data);
  const state = start.slice();
  const w = new Uint32Array(64);
  for (let at = 0; at < view.byteLength; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i);
    for (let i = 16; i < 64; i++) {
      const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    compress(state, w);
  }
  const out = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => out.setUint32(4 * i, word));
  return new Uint8Array(out.buffer);
}

/** compress mixes one block, its schedule in w, into the state. */
function compress(state, w) {
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + rounds[i] + w[i]) | 0;
    const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => {
    state[i] += word;
  });
}

/** hasher is the hash function: the browser's WebCrypto, or the function above if the browser does not offer it. */
export const hasher = globalThis.crypto?.subtle
  ? { native: true, digest: async (data) => new Uint8Array(await crypto.subtle.digest('SHA-256', data)) }
  : { native: false, digest: async (data) => sha256(data) };
