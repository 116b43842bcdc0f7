// Find records: by position, by key, or by time.

import { getJSON } from '../api.js';
import { bytes, number, t } from '../i18n.js';
import { go, href, recordHref } from '../router.js';
import { h } from '../ui/dom.js';
import { button, empty, field, form, head, lead, load, panel, time } from '../ui/parts.js';
import { paged } from '../ui/paged.js';
import { preview } from '../ui/payload.js';
import { keyOf } from './block.js';

const pageSize = 50;
const ways = ['position', 'key', 'time'];

export function find({ query, signal }) {
  const by = ways.includes(query.get('by')) ? query.get('by') : 'position';
  const results = h('div', {});
  const asked = by !== 'position' && (query.has('key') || query.has('since'));
  if (asked) search(results, query, signal);
  return {
    title: t('nav.find'),
    node: [
      head(t('nav.find')), lead(t('find.lead')),
      h('section', { class: 'panel', 'aria-label': t('nav.find') }, choice(by),
        { position: positionForm, key: keyForm, time: timeForm }[by](query)),
      asked && resultPanel(results),
    ],
  };
}

const choice = (by) =>
  h('nav', { class: 'segments', 'aria-label': t('find.by') }, ways.map((way) =>
    h('a', { href: href('find', { by: way }), 'aria-current': way === by ? 'true' : null }, t(`find.by.${way}`))));

const submit = () => button(t('find.do'), null, { type: 'submit', kind: 'primary' });

function positionForm() {
  const text = h('input', { type: 'text', name: 'position', required: true, pattern: '\\s*\\d+(\\s*/\\s*\\d+)?\\s*',
    inputmode: 'numeric', autocomplete: 'off', class: 'mono', placeholder: '12/3' });
  return form([field(t('find.position'), text, t('find.position.hint'))], submit(), async () => {
    const [block, offset] = text.value.split('/').map((part) => part.trim());
    go(offset === undefined ? `index/${block}` : `record/${block}/${offset}`);
    return null;
  });
}

const projectField = (query) => {
  const input = h('input', { type: 'text', name: 'project', autocomplete: 'off', value: query.get('project') ?? '' });
  return { input, node: field(t('find.project'), input, t('find.project.hint')) };
};

function keyForm(query) {
  const key = h('input', { type: 'text', name: 'key', required: true, maxlength: 255, autocomplete: 'off',
    class: 'mono', value: query.get('key') ?? '' });
  const project = projectField(query);
  return form([h('div', { class: 'pair' }, field(t('record.key'), key, t('find.key.hint')), project.node)], submit(),
    async () => {
    go('find', { by: 'key', key: key.value, project: project.input.value.trim() });
    return null;
  });
}

/** local formats Unix milliseconds as the value of a datetime-local input. */
export const local = (ms) => {
  const at = new Date(ms);
  return new Date(ms - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};

function timeForm(query) {
  const box = (name, fallback) =>
    h('input', { type: 'datetime-local', name, required: true, value: local(Number(query.get(name)) || fallback) });
  const since = box('since', Date.now() - 3_600_000);
  const until = box('until', Date.now() + 60_000);
  const project = projectField(query);
  return form([h('div', { class: 'pair' }, field(t('find.since'), since), field(t('find.until'), until)), project.node],
    submit(), async () => {
    const ms = (input) => new Date(input.value).getTime();
    go('find', { by: 'time', since: ms(since), until: ms(until), project: project.input.value.trim() });
    return null;
  });
}

const resultPanel = (place) => {
  const node = panel(t('find.results'), place, h('p', { class: 'hint inset' }, t('find.proof')));
  node.classList.add('flush');
  return node;
};

/** search shows the records that match the query in the address, with a button for more. */
function search(place, query, signal) {
  const asked = new URLSearchParams({ limit: pageSize });
  for (const name of ['key', 'project', 'since', 'until']) if (query.get(name)) asked.set(name, query.get(name));
  const page = (cursor) => {
    if (cursor) asked.set('cursor', cursor);
    return getJSON(`/v1/records?${asked}`, { as: 'project', signal });
  };
  load(place, () => page(), (first) =>
    (first.records.length ? results(first, page) : empty(t('find.none'), h('p', {}, t('find.none.text')))));
}

function results(first, page) {
  const columns = [t('find.position'), t('record.time'), t('record.key'), t('record.type'),
    { text: t('record.size'), right: true }, t('record.payload')];
  return paged(t('find.results'), columns, cells, first, page);
}

const cells = (r) => [
  h('a', { class: 'strong', href: recordHref(r) }, `${number(r.block)} / ${number(r.offset)}`), time(r.time), keyOf(r),
  h('span', { class: 'faint' }, r.type || '—'), bytes(r.size), preview(r),
];
