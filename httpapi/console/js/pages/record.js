// A record: its content, its position, and its proof, which the browser verifies.

import { getJSON } from '../api.js';
import { fromBase64, toHex } from '../bytes.js';
import { bytes, moment, number, t } from '../i18n.js';
import { parse, signedBy } from '../note.js';
import { href } from '../router.js';
import { hasher } from '../sha256.js';
import { refresh, status } from '../status.js';
import { targetLink } from '../ui/act.js';
import { announce } from '../ui/announce.js';
import { h } from '../ui/dom.js';
import { icon } from '../ui/icons.js';
import { button, empty, facts, hash, head, load, panel, stateBadge } from '../ui/parts.js';
import { payload } from '../ui/payload.js';
import { save } from '../ui/save.js';
import { verify } from '../verify.js';
import { keyOf } from './block.js';

/** record is the page of a position (block/offset) or an index; with as=audit of the audit trail. */
export function record({ parts, query, signal }) {
  const as = query.get('as') === 'audit' ? 'audit' : 'project';
  const [block, offset] = parts;
  const byIndex = offset === undefined;
  const path = byIndex
    ? `/v1/records/${encodeURIComponent(block)}`
    : `/v1/blocks/${encodeURIComponent(block)}/records/${encodeURIComponent(offset)}`;
  const title = byIndex ? t('record.byIndex', { index: block }) : t('record.title', { block, offset });
  const place = h('div', { class: 'stack' });
  load(place, () => getJSON(path, { as, signal }), (r) => [
    panel(t('record.payload'), payload(r, signal)),
    h('div', { class: 'pair' }, aboutPanel(r, as), proofPanel(r, path, as, signal)),
  ]);
  return { title, node: [head(title, byIndex ? null : neighbours(Number(block), Number(offset), as)), place] };
}

const at = (block, offset, as) => href(`record/${block}/${offset}`, as === 'audit' ? { as } : {});

const neighbours = (block, offset, as) => [
  offset > 0 &&
    h('a', { class: 'button quiet', href: at(block, offset - 1, as), 'aria-label': t('record.before') },
      icon('back')),
  h('a', { class: 'button quiet', href: at(block, offset + 1, as), 'aria-label': t('record.after') },
    icon('next')),
];

const aboutPanel = (r, as) =>
  panel(t('record.about'), facts(
    [t('record.place'),
      h('a', { href: href(`block/${r.block}`) }, t('record.placeText', { block: r.block, offset: r.offset }))],
    [t('record.index'), number(r.index)],
    [t('record.state'), stateBadge(r.state)],
    [t('record.time'), h('time', { datetime: new Date(r.time).toISOString() }, moment(r.time))],
    [t('record.project'), r.project],
    [t('record.key'), as === 'audit' ? targetLink(r.key) : keyOf(r)],
    [t('record.type'), r.type || '—'],
    [t('record.size'), bytes(r.size)],
    [t('record.leaf'), hash(r.leaf)],
    [t('record.commit'), hash(r.commit)]));

/** proofPanel explains the proof, and verifies it on request. */
function proofPanel(r, path, as, signal) {
  const place = h('div', { class: 'proof', 'aria-live': 'off' });
  const run = button(t('proof.verify'), () => load(place, () => check(r, path, as, signal), (result) => steps(result)),
    { kind: 'primary', glyph: 'check', id: 'verify' });
  const kept = h('div');
  const keep = button(t('receipt.save'), () => load(kept, () => keepReceipt(r, path, as, signal), (node) => node),
    { glyph: 'download', id: 'receipt' });
  return panel(t('proof.title'), h('p', {}, t('proof.lead')), h('div', { class: 'form-do' }, run, keep),
    h('p', { class: 'hint' }, t(hasher.native ? 'proof.native' : 'proof.own')), kept, place);
}

/**
 * check gets the proof and verifies it, up to the signature of the log. If no checkpoint covers the record yet, it
 * verifies up to a root that a master has reported.
 */
async function check(r, path, as, signal) {
  const proof = await getJSON(`${path}/proof`, { as, signal });
  const done = await verify(r, proof, hasher.digest);
  return done.concat(proof.checkpoint ? await signed(proof, signal) : await told(proof));
}

/** signed compares the proof's root with the checkpoint, and verifies the checkpoint with the log's keys. */
async function signed(proof, signal) {
  const note = parse(proof.checkpoint);
  const [origin, size, root] = note.lines;
  const log = await getJSON('/v1/log', { as: 'none', signal });
  const by = await signedBy(note, log.keys.map((key) => key.vkey));
  const [got, want] = [`${proof.size} ${proof.root}`, `${size} ${toHex(fromBase64(root))}`];
  return [
    { name: 'checkpoint', formula: 'size, root = checkpoint', ok: got === want, inputs: [['origin', origin]], got,
      want },
    {
      name: 'signature', formula: 'Ed25519(key, checkpoint)', ok: by ? by.ok : false,
      inputs: [['checkpoint', note.text], ...note.signatures.map((s) => [s.name, s.id])], got: by?.key ?? '—',
        want: log.keys[0]?.vkey ?? '—',
    },
  ];
}

/** told compares the proof's root with the roots that masters have reported. */
async function told(proof) {
  await refresh();
  const head_ = status.heads.get(proof.size);
  return [{
    name: 'head', formula: 'root(size) = cluster.head.root', ok: head_ ? head_.root === proof.root : null,
    inputs: [['size', String(proof.size)], ['master', head_?.from ?? '—']], got: proof.root, want: head_?.root ?? '—',
  }];
}

/** keepReceipt saves the record's receipt as a file. */
async function keepReceipt(r, path, as, signal) {
  const receipt = await getJSON(`${path}/receipt`, { as, signal });
  save(`${JSON.stringify(receipt, null, 2)}\n`, `receipt-${r.block}-${r.offset}.json`);
  return h('p', { class: 'hint', role: 'status' }, t('receipt.saved'));
}

function steps(done) {
  const bad = done.filter((step) => step.ok === false);
  const isSigned = done.some((step) => step.name === 'signature' && step.ok === true);
  const verdict = bad.length ? t('proof.bad', { n: bad.length }) : t(isSigned ? 'proof.good' : 'proof.unsigned');
  announce(verdict);
  return [
    h('p', { class: `verdict ${bad.length ? 'bad' : 'good'}` }, icon(bad.length ? 'cross' : 'check'), verdict),
    h('ol', { class: 'steps' }, done.map((one, i) => step(one, i))),
  ];
}

/** step shows one step of the proof: its result, and when opened all inputs. */
function step(one, i) {
  const sign = { true: 'good', false: 'bad', null: 'open' }[String(one.ok)];
  const node = h('li', { class: `step ${sign}` },
    h('details', { open: one.ok === false },
      h('summary', {},
        h('span', { class: 'step-sign' }, icon({ good: 'check', bad: 'cross', open: 'warn' }[sign])),
        h('span', { class: 'step-name' }, t(`proof.${one.name}`),
          h('span', { class: 'unseen' }, ` — ${t(`proof.is.${sign}`)}`))),
      h('p', { class: 'hint' }, t(`proof.${one.name}.text`)),
      h('code', { class: 'formula' }, one.formula),
      facts(...one.inputs.map(([name, value]) => [h('code', {}, name), h('code', { class: 'long' }, value)])),
      one.levels && levels(one.levels),
      facts([t('proof.got'), h('code', { class: 'long' }, one.got)],
        [t('proof.want'), h('code', { class: 'long' }, one.want)])));
  node.style.setProperty('--step', i);
  return node;
}

/** levels shows the hashes along the path in the tree. */
const levels = (all) =>
  all.length === 0 ? empty(t('proof.noPath')) : h('ol', { class: 'levels' }, all.map((level) =>
    h('li', {}, h('span', { class: 'faint' }, t(`proof.${level.side}`)),
      h('code', { title: level.sibling }, level.sibling.slice(0, 16)), '→',
        h('code', { title: level.hash }, level.hash.slice(0, 16)))));
