// The records of the audit trail. Their binary form is in docs/formats.md, and the names are those of the API.

const decoder = new TextDecoder();

/** type is the media type of the records. */
export const type = 'application/vnd.chainstore.audit';

const acts = {
  1: 'project-create', 2: 'project-change', 3: 'project-rename', 4: 'token-create', 5: 'token-revoke',
  6: 'admin-create', 7: 'admin-revoke', 8: 'settings-change', 9: 'time-set', 10: 'loss-confirm', 11: 'storage-check',
  12: 'storage-remove', 13: 'miner-remove', 14: 'master-admit', 15: 'master-promote', 16: 'master-remove',
  17: 'leadership-transfer', 18: 'worker-register', 19: 'log-key-add', 20: 'log-key-retire', 21: 'level-raise',
  22: 'certificate-reload', 23: 'project-close', 24: 'log-close', 25: 'recovery', 32: 'secret-reload',
  33: 'ticket-create', 34: 'ticket-revoke', 35: 'worker-decide', 36: 'tls-step', 37: 'baseline',
};
const phases = ['done', 'intent', 'outcome', 'reported'];
const outcomes = ['done', 'not-done', 'unknown'];
const actors = ['leader', 'admin-token', 'named-admin', 'anyone', 'node', 'project', 'operator', 'oidc'];
const roles = ['', 'admin', 'operator', 'auditor'];
const targets = [null, 'group', 'project', 'admin', 'storage', 'miner', 'master', 'log-key', 'block',
  'ticket'];

/** reader reads integers in big endian, and texts after their length. It throws a RangeError at the end. */
function reader(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  const move = (n) => {
    at += n;
    if (at > data.length) throw new RangeError('the record ends too early');
    return at - n;
  };
  const u8 = () => view.getUint8(move(1));
  const u16 = () => view.getUint16(move(2));
  const text = (n) => decoder.decode(data.subarray(move(n), at));
  return { u8, u16, text, u32: () => view.getUint32(move(4)), u64: () => Number(view.getBigUint64(move(8))),
    ended: () => at === data.length };
}

/** named returns the name of a number, and one made of it for what a newer program wrote. */
const named = (names, number, what) => names[number] ?? `${what}-${number}`;

/**
 * parse reads a record: {act, phase, outcome, intent, actor: {kind, id, role, name}, source: {address, member}, target:
 * {kind, id}, before, after}, the last two as lists of {name, value}. It returns null for other bytes.
 */
export function parse(data) {
  try {
    const r = reader(data);
    if (r.text(4) !== 'CSAU' || r.u8() !== 1) return null;
    const short = () => r.text(r.u8());
    const values = () => Array.from({ length: r.u8() }, () => ({ name: short(), value: r.text(r.u16()) }));
    const record = {
      act: named(acts, r.u16(), 'act'), phase: named(phases, r.u8(), 'phase'),
      outcome: named(outcomes, r.u8(), 'outcome'), intent: r.u64(),
      actor: { kind: named(actors, r.u8(), 'actor'), id: r.u32(), role: named(roles, r.u8(), 'role'), name: short() },
      source: { address: short(), member: short() },
      target: { kind: named(targets, r.u8(), 'target'), id: r.text(r.u16()) }, before: values(), after: values(),
    };
    return r.ended() ? record : null;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** changes lists what differs before and after: {name, before, after}, undefined where there is none; and the name. */
export function changes(record) {
  const before = new Map(record.before.map((v) => [v.name, v.value]));
  const after = new Map(record.after.map((v) => [v.name, v.value]));
  return [...new Set([...after.keys(), ...before.keys()])]
    .map((name) => ({ name, before: before.get(name), after: after.get(name) }))
    .filter((c) => c.name === 'name' || c.before !== c.after);
}
