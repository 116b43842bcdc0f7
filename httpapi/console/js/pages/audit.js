// The audit trail: what administrators and nodes did, the oldest act first.

import { getJSON } from '../api.js';
import { fromBase64 } from '../bytes.js';
import { t } from '../i18n.js';
import { go, href } from '../router.js';
import { parse } from '../trail.js';
import { actName, actorName, changeList, targetLink } from '../ui/act.js';
import { h } from '../ui/dom.js';
import { button, empty, field, form, head, lead, load, panel, time } from '../ui/parts.js';
import { paged } from '../ui/paged.js';
import { local } from './find.js';

const pageSize = 100;
const firstPeriod = 7 * 24 * 3_600_000; // ms

export function audit({ query, signal }) {
  // The history of a target begins with its first act.
  const since = Number(query.get('since')) || (query.get('target') ? 0 : Date.now() - firstPeriod);
  const results = h('div', {});
  search(results, query.get('target') ?? '', since, Number(query.get('until')), signal);
  const listed = panel(t('audit.list'), results);
  listed.classList.add('flush');
  return {
    title: t('nav.audit'),
    node: [head(t('nav.audit')), lead(t('audit.lead')),
      h('section', { class: 'panel', 'aria-label': t('find.do') }, filter(query, since)), listed],
  };
}

/** filter is the form with the conditions, which are part of the address. */
function filter(query, since) {
  const box = (name, value) => h('input', { type: 'datetime-local', name, value: value ? local(value) : '' });
  const [from, until] = [box('since', since), box('until', Number(query.get('until')))];
  const target = h('input', { type: 'text', name: 'target', maxlength: 255, autocomplete: 'off', class: 'mono',
    value: query.get('target') ?? '', placeholder: 'project/7' });
  const ms = (input) => (input.value ? new Date(input.value).getTime() : '');
  return form([h('div', { class: 'triple' }, field(t('audit.target'), target, t('audit.target.hint')),
    field(t('find.since'), from), field(t('find.until'), until))],
  button(t('find.do'), null, { type: 'submit', kind: 'primary' }), async () => {
    go('audit', { target: target.value.trim(), since: ms(from), until: ms(until) });
    return null;
  });
}

/** search shows the acts that meet the conditions, with a button for more. */
function search(place, target, since, until, signal) {
  const asked = new URLSearchParams({ project: '_audit', limit: pageSize });
  for (const [name, value] of Object.entries({ key: target, since, until })) if (value) asked.set(name, value);
  const page = (cursor) => {
    if (cursor) asked.set('cursor', cursor);
    return getJSON(`/v1/records?${asked}`, { as: 'audit', signal });
  };
  load(place, () => page(), (first) =>
    (first.records.length ? results(first, page) : empty(t('audit.none'), h('p', {}, t('audit.none.text')))));
}

function results(first, page) {
  const columns = [t('record.time'), t('audit.actor'), t('audit.from'), t('audit.act'), t('audit.target'),
    t('audit.change')];
  return paged(t('audit.list'), columns, cells, first, page);
}

function cells(r) {
  const place = h('a', { class: 'strong', href: href(`record/${r.block}/${r.offset}`, { as: 'audit' }) }, time(r.time));
  const act = parse(fromBase64(r.payload));
  if (!act) return [place, '', '', h('span', { class: 'faint' }, t('audit.unknown')), targetLink(r.key), ''];
  return [place, h('span', {}, actorName(act.actor)),
    act.source.address ? h('code', {}, act.source.address) : h('span', { class: 'faint' }, '—'),
    h('span', {}, actName(act)), targetLink(r.key), h('span', { class: 'change' }, changeList(act))];
}
