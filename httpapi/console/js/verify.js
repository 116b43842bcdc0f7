// Verification of a record's proof with only SHA-256. The formulas are those of docs/formats.md. The paths are those of
// RFC 6962, checked as in RFC 9162, section 2.1.3.2. Every step keeps its inputs and its result, so that the user can
// repeat it.

import { concat, fromBase64, fromHex, leadingZeroBits, toHex, u32, u64, u8, utf8 } from './bytes.js';

const len8 = (data) => u8(data.length);

/** commitInput returns the input of the commitment's hash. */
function commitInput(record) {
  const [key, type] = [utf8(record.key), utf8(record.type)];
  return concat(fromBase64(record.salt), len8(key), key, len8(type), type, fromBase64(record.payload));
}

/** leafData returns a record's leaf, 49 bytes. */
const leafData = (record, commit) => concat(u8(1), u32(record.project_id), u64(record.time), u32(record.size), commit);

/** headerData returns a block's header, 103 bytes, with the nonce at the end. */
function headerData(h) {
  return concat(
    u8(2), u8(h.version), u64(h.block), u64(h.first), u32(h.count), fromHex(h.prev), fromHex(h.root), u64(h.time),
    u8(h.difficulty), u64(h.nonce),
  );
}

/** half returns n / 2 without the fraction. Indices may exceed 2^32, the limit of shifts. */
const half = (n) => Math.floor(n / 2);

/**
 * climb computes the root from a leaf and its path: {root, levels, fits}. A level is {side, sibling, hash}: the sibling
 * hash, its side, and the parent's hash. fits reports whether the path has the length required by a tree of this size.
 */
async function climb(leaf, index, size, path, digest) {
  let [at, last, hash] = [index, size - 1, leaf];
  const levels = [];
  let fits = index < size;
  for (const hex of path) {
    const sibling = fromHex(hex);
    fits &&= last > 0;
    const left = at % 2 === 1 || at === last;
    hash = await digest(left ? concat(u8(1), sibling, hash) : concat(u8(1), hash, sibling));
    levels.push({ side: left ? 'left' : 'right', sibling: hex, hash: toHex(hash) });
    while (left && at % 2 === 0 && at !== 0) [at, last] = [half(at), half(last)];
    [at, last] = [half(at), half(last)];
  }
  return { root: hash, levels, fits: fits && last === 0 };
}

/**
 * fold returns the root of the tree before a leaf. The siblings on the left of the leaf's path, the lowest first, are
 * the roots of the full subtrees of that tree. A header in the tree may name the root of another tree; only this check
 * detects that.
 */
async function fold(left, digest) {
  if (left.length === 0) return digest(new Uint8Array());
  let root = fromHex(left[0]);
  for (const hex of left.slice(1)) root = await digest(concat(u8(1), fromHex(hex), root));
  return root;
}

/**
 * verify checks a record against its proof. It returns the steps in order: {name, formula, inputs: [[name, text]…],
 * got, want, ok, levels?}. record is the envelope of the API, proof the response of …/proof, and digest a function that
 * returns the SHA-256 of bytes.
 */
export async function verify(record, proof, digest) {
  const steps = [];
  const step = (name, formula, inputs, got, want, more = {}) => {
    steps.push({ name, formula, inputs, got: String(got), want: String(want), ok: String(got) === String(want),
      ...more });
  };
  const h = proof.header;

  const commit = await digest(commitInput(record));
  const size = fromBase64(record.payload).length;
  step('commit', 'SHA-256(salt ‖ len8(key) ‖ key ‖ len8(type) ‖ type ‖ payload)', [
    ['salt', toHex(fromBase64(record.salt))], ['key', record.key || '∅'], ['type', record.type || '∅'],
      ['payload', `${size} B`],
  ], toHex(commit), record.commit);

  const leaf = leafData({ ...record, size }, commit);
  step('leafData', '0x01 ‖ project u32 ‖ time u64 ‖ size u32 ‖ commit', [
    ['project', String(record.project_id)], ['time', String(record.time)], ['size', String(size)],
      ['commit', toHex(commit)],
  ], toHex(leaf), toHex(fromBase64(proof.leaf_data)));

  const leafHash = await digest(concat(u8(0), leaf));
  step('leaf', 'SHA-256(0x00 ‖ leaf)', [['leaf', toHex(leaf)]], toHex(leafHash), record.leaf);

  const seal = h.first + h.count;
  step('place', 'block.first + offset = index,  offset < block.count', [
    ['block', String(h.block)], ['first', String(h.first)], ['count', String(h.count)],
      ['offset', String(record.offset)],
  ], placeOf(h.block, h.first + record.offset, record.offset < h.count), placeOf(record.block, record.index, true));

  const up = await climb(leafHash, record.index, seal, proof.record_path, digest);
  step('path', 'SHA-256(0x01 ‖ left ‖ right) …', [['leaf hash', toHex(leafHash)], ['index', String(record.index)],
    ['tree size', String(seal)]],
    toHex(up.root), up.fits ? h.root : wrongLength, { levels: up.levels });

  const header = headerData(h);
  const inner = await digest(header.subarray(0, -8));
  const block = await digest(concat(inner, header.subarray(-8)));
  step('header', 'SHA-256( SHA-256(header − nonce) ‖ nonce )', [
    ['header', toHex(header)], ['inner', toHex(inner)], ['nonce', String(h.nonce)],
  ], toHex(block), h.hash);

  const zeros = leadingZeroBits(block);
  step('work', 'leading zero bits(block hash) ≥ difficulty', [
    ['block hash', toHex(block)], ['zero bits', String(zeros)], ['difficulty', String(h.difficulty)],
  ], zeros >= h.difficulty ? `${zeros} ≥ ${h.difficulty}` : `${zeros} < ${h.difficulty}`, `${zeros} ≥ ${h.difficulty}`);

  const sealHash = await digest(concat(u8(0), header));
  const top = await climb(sealHash, seal, proof.size, proof.seal_path, digest);
  step('seal', 'SHA-256(0x00 ‖ header),  SHA-256(0x01 ‖ left ‖ right) …', [
    ['seal hash', toHex(sealHash)], ['index', String(seal)], ['tree size', String(proof.size)],
  ], toHex(top.root), top.fits ? proof.root : wrongLength, { levels: top.levels });

  const left = top.levels.filter((level) => level.side === 'left').map((level) => level.sibling);
  step('before', 'SHA-256(0x01 ‖ left ‖ right) … of the left siblings alone', left.map((hex) => ['left', hex]),
    toHex(await fold(left, digest)), h.root);
  return steps;
}

const wrongLength = 'path of another length';

const placeOf = (block, index, within) => `block ${block}, index ${index}${within ? '' : ', outside of the block'}`;
