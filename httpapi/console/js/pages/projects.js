// Projects and their settings. Administration is shown only with the admin token.

import { getJSON, segment, sendJSON } from '../api.js';
import { number, t } from '../i18n.js';
import { token } from '../settings.js';
import { h, replace } from '../ui/dom.js';
import { button, checkbox, empty, field, form, head, lead, load, panel, problemBox, row, table,
  time } from '../ui/parts.js';
import { showToken } from '../ui/newtoken.js';
import { projectPanel, quotaFields, quotaText } from './project.js';

export function projects({ parts, signal, redraw }) {
  if (parts.length) return projectPanel(parts[0], signal, redraw);
  const list = h('div', {});
  const show = () => showList(list, signal);
  show();
  const listed = panel(t('projects.list'), list);
  listed.classList.add('flush');
  return { title: t('nav.projects'), node: [head(t('nav.projects')), lead(t('projects.lead')), listed,
    createPanel(signal, show)] };
}

function showList(place, signal) {
  if (!token('project') && !token('admin')) {
    replace(place, h('div', { class: 'inset' }, problemBox({ status: 401, name: 'no-any-token' })));
    return;
  }
  load(place, () => getJSON('/v1/projects?limit=100', { signal }),
    (page) => (page.projects.length ? projectList(page, signal) : empty(t('projects.none'))));
}

function projectList(page, signal) {
  const columns = [t('projects.name'), t('projects.who'), { text: t('projects.records'), right: true },
    t('projects.quota'), t('projects.created')];
  const list = table(t('projects.list'), columns, page.projects.map(cells));
  const more = h('div', { class: 'more' });
  const offer = (next) => replace(more, next ? button(t('more'), () => append(next)) : null);
  const append = (cursor) => load(more, () => getJSON(`/v1/projects?limit=100&cursor=${segment(cursor)}`, { signal }),
    (next) => {
    list.querySelector('tbody').append(...next.projects.map((p) => row(cells(p), columns)));
    queueMicrotask(() => offer(next.next));
    return null;
  });
  offer(page.next);
  return [list, more];
}

const cells = (p) => [
  h('a', { class: 'strong', href: `#/projects/${segment(p.id)}` }, p.name),
  h('span', {}, h('span', { class: `badge ${p.public ? 'public' : 'private'}` },
    t(p.public ? 'projects.public' : 'projects.private')),
  ...(p.closed ? [' ', h('span', { class: 'badge' }, t('projects.closed'))] : [])),
  number(p.records ?? 0), h('span', { class: 'faint' }, quotaText(p.quota)), time(p.created),
];

/**
 * createPanel creates projects: with the admin token, or without it if the cluster allows registration. made is called
 * when a project was created.
 */
function createPanel(signal, made) {
  const name = h('input', { type: 'text', name: 'name', required: true, maxlength: 100, autocomplete: 'off' });
  const open = checkbox(t('projects.isPublic'));
  const quota = quotaFields();
  const work = async () => {
    const limits = quota.value();
    const created = await sendJSON('POST', '/v1/projects',
      { name: name.value.trim(), public: open.input.checked, ...(limits && { quota: limits }) },
      { as: token('admin') ? 'admin' : 'none', signal });
    await showToken(t('projects.made', { name: created.name }), created.token, true);
    made();
    return null;
  };
  const node = form([
    field(t('projects.name'), name), open.node,
    h('details', { class: 'plain' }, h('summary', {}, t('projects.quota')), quota.node),
  ], button(t('projects.create'), null, { type: 'submit', kind: 'primary' }), work);
  return panel(t('projects.create'),
    h('p', { class: 'hint' }, t(token('admin') ? 'projects.create.admin' : 'projects.create.open')), node);
}
