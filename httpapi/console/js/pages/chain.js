// The chain: its blocks, the newest first, and a form that jumps to a block, a record or a hash.

import { getJSON } from '../api.js';
import { number, t } from '../i18n.js';
import { go, href } from '../router.js';
import { status } from '../status.js';
import { h, replace } from '../ui/dom.js';
import { button, empty, field, form, hash, head, lead, load, row, select, table, time } from '../ui/parts.js';

const pageSize = 30;

export function chain({ signal }) {
  const place = h('div', {});
  const fresh = h('p', { class: 'fresh-note', hidden: true });
  let height = 0;
  const open = () => {
    fresh.hidden = true;
    return load(place, () => getJSON(`/v1/blocks?limit=${pageSize}`, { signal }), (page) => {
      height = page.blocks.length ? page.blocks[0].block + 1 : 0;
      return page.blocks.length
        ? blockList(page, signal) : empty(t('chain.none'),
          h('p', {}, h('a', { href: href('add') }, t('chain.none.do'))));
    });
  };
  status.addEventListener('change', () => {
    const more = (status.cluster?.head.height ?? 0) - height;
    if (!place.querySelector('table, .empty') || more <= 0) return;
    fresh.hidden = false;
    replace(fresh, button(t('chain.more', { n: more }), open, { kind: 'quiet' }));
  }, { signal });
  open();
  return {
    title: t('nav.chain'),
    node: [head(t('nav.chain')), lead(t('chain.lead')), jumpBox(signal),
      h('section', { class: 'panel flush', 'aria-label': t('chain.blocks') }, fresh, place)],
  };
}

/** blockList returns the table of blocks, with a button for older ones. */
function blockList(page, signal) {
  const columns = [t('block.number'), { text: t('block.records'), right: true },
    { text: t('block.leaves'), right: true }, t('block.hash'), { text: t('block.work'), right: true }, t('block.time')];
  const list = table(t('chain.blocks'), columns, page.blocks.map(cells), { class: 'table chained' });
  const body = list.querySelector('tbody');
  const more = h('div', { class: 'more' });
  const offer = (next) => replace(more, next ? button(t('older'), () => append(next)) : null);
  const append = async (cursor) => {
    await load(more, () => getJSON(`/v1/blocks?limit=${pageSize}&cursor=${cursor}`, { signal }), (older) => {
      body.append(...older.blocks.map((b) => row(cells(b), columns)));
      queueMicrotask(() => offer(older.next));
      return null;
    });
  };
  offer(page.next);
  return [list, more];
}

const cells = (b) => [
  h('a', { class: 'strong', href: href(`block/${b.block}`) }, number(b.block)), number(b.count),
  `${number(b.first)} – ${number(b.first + b.count)}`, hash(b.hash, { letters: 14 }),
    t('block.bits', { bits: b.difficulty }), time(b.time),
];

/** jumpBox returns a form that opens a block, a record or the entry with a hash. */
function jumpBox(signal) {
  const kind = select(['block', 'record', 'hash'].map((k) => [k, t(`jump.${k}`)]), 'block', { name: 'kind' });
  const text = h('input', { type: 'text', required: true, autocomplete: 'off', spellcheck: 'false', class: 'mono',
    name: 'jump', placeholder: '12' });
  const examples = { block: '12', record: '12/3', hash: '0000b409…' };
  kind.addEventListener('change', () => {
    text.placeholder = examples[kind.value];
  });
  text.addEventListener('input', () => {
    const said = text.value.trim();
    if (/^[0-9a-f]{64}$/i.test(said)) kind.value = 'hash';
    else if (said.includes('/')) kind.value = 'record';
  });
  const node = form([field(t('jump.kind'), kind), field(t('jump.what'), text, t('jump.hint'))],
    button(t('jump.go'), null, { type: 'submit', kind: 'primary' }),
    () => jump(kind.value, text.value.trim(), signal));
  node.classList.add('inline', 'panel');
  node.setAttribute('aria-label', t('jump.label'));
  return node;
}

async function jump(kind, text, signal) {
  const place = text.match(/^(\d+)\/(\d+)$/);
  if (kind === 'hash') {
    const found = await getJSON(`/v1/hashes/${encodeURIComponent(text.toLowerCase())}`, { signal });
    go(found.kind === 'block' ? `block/${found.block}` : `record/${found.block}/${found.offset}`);
  } else if (kind === 'record' && place) {
    go(`record/${place[1]}/${place[2]}`);
  } else if (/^\d+$/.test(text)) {
    go(kind === 'record' ? `index/${text}` : `block/${text}`);
  } else {
    return h('p', { class: 'problem', role: 'alert' }, t('jump.notThat'));
  }
  return null;
}
