// A block: its header, and its records that the token may read.

import { getJSON } from '../api.js';
import { bytes, number, t } from '../i18n.js';
import { href, recordHref } from '../router.js';
import { h, replace } from '../ui/dom.js';
import { icon } from '../ui/icons.js';
import { button, facts, hash, head, load, panel, row, short, table, time } from '../ui/parts.js';
import { preview } from '../ui/payload.js';

const pageSize = 100;

export function block({ parts, signal }) {
  const number_ = parts[0] ?? '';
  const place = h('div', { class: 'stack' });
  load(place, () => getJSON(`/v1/blocks/${encodeURIComponent(number_)}`, { signal }),
    (b) => [headerPanel(b), recordsPanel(b, signal)]);
  const title = t('block.title', { number: number_ });
  return { title, node: [head(title, neighbours(Number(number_))), place] };
}

const neighbours = (n) => [
  n > 0 && h('a', { class: 'button quiet', href: href(`block/${n - 1}`), 'aria-label': t('block.before') },
    icon('back')),
  Number.isSafeInteger(n) &&
    h('a', { class: 'button quiet', href: href(`block/${n + 1}`), 'aria-label': t('block.after') }, icon('next')),
];

/** headerPanel shows the header's fields, in the order in which they are hashed. */
const headerPanel = (b) =>
  panel(t('block.header'),
    facts(
      [t('block.hash'), hash(b.hash, { whole: true })],
      [t('block.prev'), b.block > 0
        ? h('a', { href: href(`block/${b.block - 1}`) }, h('code', { class: 'long' }, b.prev)) : h('code',
          { class: 'long faint' }, b.prev)],
      [t('block.root'), hash(b.root, { whole: true })],
      [t('block.time'), time(b.time)],
      [t('block.records'), number(b.count)],
      [t('block.leaves'),
        t('block.leaves.text', { first: b.first, last: b.first + b.count - 1, seal: b.first + b.count })],
      [t('block.work'), t('block.work.text', { bits: b.difficulty })],
      [t('block.nonce'), h('code', {}, b.nonce)],
      [t('block.version'), number(b.version)]),
    h('p', { class: 'hint' }, t('block.hint')));

function recordsPanel(b, signal) {
  const place = h('div', {});
  load(place, () => page(b, 0, signal), (first) => recordList(b, first, signal));
  const section = panel(t('block.recordsTitle'), place);
  section.classList.add('flush');
  return section;
}

const page = (b, from, signal) => getJSON(`/v1/blocks/${b.block}/records?from=${from}&limit=${pageSize}`, { signal });

/** recordList returns the table of a block's records, with a button for more. */
function recordList(b, first, signal) {
  const columns = [t('record.offset'), t('record.key'), t('record.type'), { text: t('record.size'), right: true },
    t('record.payload')];
  const list = table(t('block.recordsTitle'), columns, first.records.map(cells));
  const more = h('div', { class: 'more' });
  const offer = (last) => replace(more, last ? button(t('more'), () => append(last.offset + 1)) : null);
  const append = (from) => load(more, () => page(b, from, signal), (next) => {
    list.querySelector('tbody').append(...next.records.map((r) => row(cells(r), columns)));
    queueMicrotask(() => offer(next.next && next.records.at(-1)));
    return null;
  });
  offer(first.next && first.records.at(-1));
  return [list, more];
}

function cells(r) {
  if (r.hidden) return [number(r.offset), h('span', { class: 'faint hidden-record' }, icon('lock'), t('record.hidden')),
    '', '', ''];
  return [h('a', { class: 'strong', href: recordHref(r) }, number(r.offset)), keyOf(r),
    h('span', { class: 'faint' }, r.type || '—'), bytes(r.size), preview(r)];
}

/** keyOf returns a record's key as a link to its history. */
export const keyOf = (r) =>
  (r.key ? h('a', { href: href('find', { by: 'key', key: r.key, project: r.project }) },
    h('code', {}, short(r.key, 24))) : h('span', { class: 'faint' }, '—'));
