// One project: its visibility, its limits, its tokens.

import { getJSON, segment, sendJSON } from '../api.js';
import { bytes, number, t } from '../i18n.js';
import { mayChange } from '../role.js';
import { href } from '../router.js';
import { token } from '../settings.js';
import { toast } from '../ui/announce.js';
import { confirm } from '../ui/dialog.js';
import { h } from '../ui/dom.js';
import { actions, button, checkbox, empty, explain, facts, field, form, head, load, panel, table,
  time } from '../ui/parts.js';
import { showToken } from '../ui/newtoken.js';

const auditTrail = 4_294_967_295; // the id of the project _audit, which cannot be changed

const limits = ['records_per_second', 'bytes_per_second', 'record_bytes'];

/** quotaText formats a quota; 0 means no limit. */
export function quotaText(quota) {
  const told = [
    quota?.records_per_second && t('quota.records', { n: quota.records_per_second }),
    quota?.bytes_per_second && t('quota.bytes', { size: bytes(quota.bytes_per_second) }),
    quota?.record_bytes && t('quota.record', { size: bytes(quota.record_bytes) }),
  ].filter(Boolean);
  return told.length ? told.join(', ') : t('quota.none');
}

/** quotaFields returns the three inputs of a quota: {node, value}; value is null if all are empty. */
export function quotaFields(quota = {}) {
  const boxes = limits.map((name) =>
    h('input', { type: 'number', min: 0, step: 1, name, inputmode: 'numeric', value: quota[name] || '' }));
  return {
    node: h('div', { class: 'triple' }, limits.map((name, i) => field(t(`quota.${name}`), boxes[i])),
      h('p', { class: 'hint' }, t('quota.hint'))),
    value: () =>
      (boxes.some((box) => box.value)
        ? Object.fromEntries(limits.map((name, i) => [name, Number(boxes[i].value)])) : null),
  };
}

/** projectPanel is the page of one project. */
export function projectPanel(id, signal, redraw) {
  const heading = h('span', {}, t('projects.one', { name: id }));
  const place = h('div', { class: 'stack' });
  const ask = () => Promise.all([getJSON(`/v1/projects/${segment(id)}`, { signal }), mayChange(signal)]);
  load(place, ask, ([p, changes]) => {
    heading.textContent = t('projects.one', { name: p.name });
    return [aboutPanel(p),
      ...(token('admin')
        ? [settingsPanel(p, signal, redraw),
          tokensPanel(p, signal)] : [panel(t('tokens.title'), h('p', { class: 'hint' }, t('tokens.needAdmin')))]),
      changes && p.id !== auditTrail && closePanel(p, signal, redraw)];
  });
  return { title: t('nav.projects'),
    node: [h('p', { class: 'crumb' }, h('a', { href: href('projects') }, t('nav.projects'))), head(heading), place] };
}

const aboutPanel = (p) =>
  panel(t('projects.about'), facts(
    [t('projects.id'), String(p.id)],
    [t('projects.who'), t(p.public ? 'projects.public.text' : 'projects.private.text')],
    [t('projects.records'), number(p.records ?? 0)],
    [t('projects.quota'), quotaText(p.quota)],
    [t('projects.created'), time(p.created)],
    ...(p.closed ? [[t('projects.closed'), time(p.closed)]] : [])));

function settingsPanel(p, signal, redraw) {
  const open = checkbox(t('projects.isPublic'), p.public);
  const quota = quotaFields(p.quota);
  const none = Object.fromEntries(limits.map((name) => [name, 0]));
  const node = form([quota.node, open.node], button(t('projects.save'), null, { type: 'submit' }), async () => {
    await sendJSON('PATCH', `/v1/projects/${segment(p.id)}`,
      { quota: quota.value() ?? none, public: open.input.checked }, { signal });
    toast(t('projects.saved'));
    redraw();
    return null;
  });
  return panel(t('projects.settings'), node);
}

/** closePanel closes a project, or opens a closed one again. */
function closePanel(p, signal, redraw) {
  const { node, act } = actions();
  const what = p.closed ? 'open' : 'close';
  const change = () => act(async () => {
    if (!(await confirm(t(`${what}.title`), t(`${what}.ask`, { name: p.name }), t(`${what}.yes`),
      p.closed ? 'primary' : 'danger'))) return;
    await sendJSON('PATCH', `/v1/projects/${segment(p.id)}`, { closed: !p.closed }, { signal });
    toast(t(`${what}.done`));
    redraw();
    document.querySelector('main h1')?.focus();
  });
  return panel(t(`${what}.title`), h('p', {}, t(`${what}.text`)), node,
    h('div', { class: 'form-do' }, button(t(`${what}.title`), change,
      { kind: p.closed ? '' : 'danger', id: 'close-project' })));
}

function tokensPanel(p, signal) {
  const path = `/v1/projects/${segment(p.id)}/tokens`;
  const list = h('div', {});
  const show = () => load(list, () => getJSON(path, { as: 'admin', signal }),
    (page) => (page.tokens.length ? tokenList(page.tokens, path, signal, show) : empty(t('tokens.none'))));
  show();
  return panel(t('tokens.title'), list, h('h3', {}, t('tokens.create')), newTokenForm(path, signal, show));
}

const tokenList = (tokens, path, signal, show) =>
  table(t('tokens.title'), [t('tokens.label'), t('tokens.rights'), t('projects.created'), t('tokens.id'),
    { text: t('tokens.do'), right: true }], tokens.map((one) => [
    one.label || '—', one.rights.map((r) => h('span', { class: 'badge' }, t(`rights.${r}`))), time(one.created),
      h('code', {}, one.id),
    button(t('tokens.revoke'), () => revoke(one, path, signal, show),
      { kind: 'danger small', 'aria-label': t('tokens.revokeOne', { label: one.label || one.id }) }),
  ]));

async function revoke(one, path, signal, show) {
  if (!(await confirm(t('tokens.revoke'), t('tokens.revoke.text', { label: one.label || one.id }),
    t('tokens.revoke')))) return;
  try {
    await sendJSON('DELETE', `${path}/${segment(one.id)}`, undefined, { signal });
    toast(t('tokens.revoked'));
  } catch (error) {
    toast(explain(error));
  }
  show();
}

function newTokenForm(path, signal, show) {
  const label = h('input', { type: 'text', name: 'label', maxlength: 100, autocomplete: 'off' });
  const rights = { read: checkbox(t('rights.read'), true), append: checkbox(t('rights.append'), true) };
  const fieldset = h('fieldset', { class: 'rights' }, h('legend', {}, t('tokens.rights')),
    Object.values(rights).map((box) => box.node));
  return form([field(t('tokens.label'), label, t('tokens.label.hint')), fieldset],
    button(t('tokens.make'), null, { type: 'submit' }), async () => {
    const chosen = Object.keys(rights).filter((name) => rights[name].input.checked);
    if (chosen.length === 0) return h('p', { class: 'problem', role: 'alert' }, t('tokens.noRights'));
    const made = await sendJSON('POST', path, { label: label.value.trim(), rights: chosen }, { signal });
    await showToken(t('tokens.made'), made.token, true);
    show();
    return null;
  });
}
