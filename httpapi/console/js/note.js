// Signed notes (C2SP signed-note), the format of the log's checkpoints: a text, an empty line, and lines of
// signatures.

import { fromBase64, toHex, utf8 } from './bytes.js';

const ed25519 = 1; // the algorithm byte at the start of a verifier key

/** parse returns {text, lines, signatures: [{name, id, signature}]} of a note. It throws if the note is malformed. */
export function parse(note) {
  const at = note.lastIndexOf('\n\n');
  if (at < 0) throw new Error('not a signed note');
  const text = note.slice(0, at + 1);
  const signatures = note.slice(at + 2).split('\n').filter(Boolean).map((line) => {
    const [dash, name, data] = line.split(' ');
    if (dash !== '—' || !data) throw new Error('not a signed note');
    const bytes = fromBase64(data);
    return { name, id: toHex(bytes.subarray(0, 4)), signature: bytes.subarray(4) };
  });
  return { text, lines: text.split('\n'), signatures };
}

/**
 * signedBy finds a signature by one of the keys, given as verifier keys (name+id+base64). It returns {key, ok}. ok is
 * null if the browser cannot check it, because it lacks Ed25519 or denies WebCrypto to this page. Without a signature
 * by one of the keys it returns nothing.
 */
export async function signedBy(note, keys) {
  for (const key of keys) {
    const [name, id, data] = split(key);
    const material = fromBase64(data);
    const found = note.signatures.find((s) => s.name === name && s.id === id);
    if (!found || material[0] !== ed25519) continue;
    const checked = await check(material.subarray(1), found.signature, utf8(note.text));
    return { key, ok: checked };
  }
  return null;
}

/** split splits a verifier key, whose base64 part may include plus signs. */
function split(key) {
  const [name, id] = key.split('+', 2);
  return [name, id, key.slice(name.length + id.length + 2)];
}

async function check(key, signature, text) {
  try {
    const imported = await crypto.subtle.importKey('raw', key, { name: 'Ed25519' }, false, ['verify']);
    return await crypto.subtle.verify({ name: 'Ed25519' }, imported, signature, text);
  } catch {
    return null;
  }
}
