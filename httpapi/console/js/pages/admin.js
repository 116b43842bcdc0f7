// Administration: workers that wait for approval, join tickets of new masters, and the keys of the log.

import { Cancelled, getJSON, segment, sendJSON } from '../api.js';
import { moment, t } from '../i18n.js';
import { adminRole } from '../role.js';
import { status } from '../status.js';
import { toast } from '../ui/announce.js';
import { confirm } from '../ui/dialog.js';
import { h, replace } from '../ui/dom.js';
import { showToken } from '../ui/newtoken.js';
import { actions, button, commandLine, empty, facts, field, form, hash, head, keepFocus, lead, load, panel, problemBox,
  replaceKeepingFocus, select, spinner, table, time } from '../ui/parts.js';

const roles = ['admin', 'operator', 'auditor'];

export function admin({ signal }) {
  const place = h('div', { class: 'stack' });
  load(place, () => adminRole(signal), (role) => (roles.includes(role)
    ? [role !== 'admin' && h('p', { class: 'notice' }, t('admin.role', { role })),
      waitingPanel(role, signal), ticketsPanel(role, signal), logPanel(signal)]
    : problemBox({ status: 401, name: 'no-admin-token' })));
  return { title: t('admin.title'), node: [head(t('admin.title')), lead(t('admin.lead')), place] };
}

/** waitingPanel shows the workers that wait. It asks again with every status, since new ones come at any time. */
function waitingPanel(role, signal) {
  const place = h('div', { tabindex: '-1', id: 'waiting' });
  const { node, act } = actions();
  let [running, drawn] = [null, '']; // the request in flight
  const question = async () => {
    try {
      const { waiting = [], settings } = await getJSON('/v1/cluster', { as: 'admin', signal });
      const now = JSON.stringify([waiting, settings?.approve_workers]);
      const inside = place.contains(document.activeElement);
      if (now !== drawn) replaceKeepingFocus(place, waitingParts(waiting, settings, role, decide));
      if (inside) keepFocus(place);
      drawn = now;
    } catch (error) {
      if (!(error instanceof Cancelled) && !drawn) replace(place, problemBox(error, ask));
    }
    running = null;
  };
  const ask = () => (running ??= question());
  const decide = (worker, what) => act(async () => {
    if (!(await decideOn(worker, what, signal))) return;
    await running; // its answer may be older than the decision
    await ask();
    keepFocus(place);
  });
  replace(place, spinner());
  status.addEventListener('change', ask, { signal });
  ask();
  return panel(t('waiting.title'), node, place);
}

function waitingParts(waiting, settings, role, decide) {
  const rule = h('p', { class: 'hint' }, t(settings?.approve_workers ? 'waiting.needed' : 'waiting.notNeeded'));
  if (waiting.length === 0) return [rule, empty(t('waiting.none'))];
  const headings = [t('node.url'), t('waiting.kind'), t('node.id'), t('waiting.since')];
  if (role === 'admin') headings.push({ text: t('waiting.do'), right: true });
  const cells = (one) => [one.url, t(`waiting.${one.role}`), h('code', {}, one.id),
    h('span', {}, time(one.since), one.approved && [' ', h('span', { class: 'badge' }, t('waiting.approved'))]),
    ...(role === 'admin' ? [h('span', { class: 'row-do' }, decisions(one, decide))] : [])];
  return [rule, h('p', { class: 'hint' }, t('waiting.compare')),
    table(t('waiting.title'), headings, waiting.map(cells))];
}

const decisions = (one, decide) => [
  !one.approved && button(t('waiting.approve'), () => decide(one, 'approve'),
    { kind: 'small', 'aria-label': t('waiting.approveOne', one), 'data-keep': `approve-${one.id}` }),
  button(t('waiting.refuse'), () => decide(one, 'refuse'),
    { kind: 'danger small', 'aria-label': t('waiting.refuseOne', one), 'data-keep': `refuse-${one.id}` }),
];

/** decideOn approves or refuses a worker after a confirmation. It resolves to false without one. */
async function decideOn(one, what, signal) {
  if (!(await confirm(t(`waiting.${what}`), t(`waiting.${what}.text`, one), t(`waiting.${what}.yes`),
    what === 'approve' ? 'primary' : 'danger'))) return false;
  const path = `/v1/waiting-workers/${segment(one.id)}`;
  if (what === 'approve') await sendJSON('POST', `${path}/approve`, undefined, { signal });
  else await sendJSON('DELETE', path, undefined, { signal });
  toast(t(`waiting.${what}.done`, one));
  return true;
}

/** hours are the validities that the form offers. */
const hours = { hour: 1, day: 24, week: 7 * 24, month: 30 * 24 };

function ticketsPanel(role, signal) {
  const list = h('div', { tabindex: '-1', id: 'tickets' });
  const { node, act } = actions();
  const show = () => load(list, () => getJSON('/v1/join-tickets', { as: 'admin', signal }),
    ({ tickets }) => (tickets.length ? ticketTable(tickets, role, revoke) : empty(t('tickets.none'))));
  const revoke = (one) => act(async () => {
    if (!(await confirm(t('tickets.revoke'), t('tickets.revoke.text', { name: nameOf(one) }),
      t('tickets.revoke.yes')))) return;
    await sendJSON('DELETE', `/v1/join-tickets/${one.id}`, undefined, { signal });
    toast(t('tickets.revoked'));
    await show();
    keepFocus(list);
  });
  show();
  return panel(t('tickets.title'), h('p', { class: 'hint' }, t('tickets.lead')), node, list,
    role === 'admin' && [h('h3', {}, t('tickets.create')), newTicketForm(show, signal)]);
}

const nameOf = (one) => one.name || `#${one.id}`;

function ticketTable(tickets, role, revoke) {
  const headings = [t('tickets.name'), t('tickets.state'), t('tickets.by'), t('tickets.expires'), t('tickets.member')];
  if (role === 'admin') headings.push({ text: t('tickets.do'), right: true });
  return table(t('tickets.title'), headings, tickets.map((one) => [
    nameOf(one), h('span', { class: 'badge' }, t(`tickets.${one.state}`)), one.by || '—', exactly(one.expires),
    one.member ? h('code', {}, one.member) : '—',
    ...(role === 'admin' ? [one.state === 'used' ? '' : button(t('tickets.revoke'), () => revoke(one),
      { kind: 'danger small', 'aria-label': t('tickets.revokeOne', { name: nameOf(one) }) })] : []),
  ]));
}

/** exactly shows a time that may be in the future. */
const exactly = (ms) => h('time', { datetime: new Date(ms).toISOString() }, moment(ms));

function newTicketForm(made, signal) {
  const name = h('input', { type: 'text', name: 'ticket-name', maxlength: 64, autocomplete: 'off' });
  const valid = select(Object.keys(hours).map((one) => [one, t(`tickets.valid.${one}`)]), 'day',
    { name: 'ticket-valid' });
  return form([h('div', { class: 'triple' }, field(t('tickets.name'), name, t('tickets.name.hint')),
    field(t('tickets.valid'), valid))], button(t('tickets.make'), null, { type: 'submit' }), async () => {
    const created = await sendJSON('POST', '/v1/join-tickets',
      { name: name.value.trim(), valid_seconds: hours[valid.value] * 3600 }, { signal });
    await showToken(t('tickets.made'), created.ticket, false, { once: t('tickets.once'), copy: t('copy.ticket') });
    name.value = '';
    made();
    return null;
  });
}

/** logPanel shows the log's keys and what it continues. The log is closed by the command line only. */
function logPanel(signal) {
  const place = h('div', {});
  load(place, () => getJSON('/v1/log', { as: 'admin', signal }), (log) => {
    if (!log.origin) return empty(t('log.none'));
    return [facts([t('log.origin'), h('code', {}, log.origin)]), keyTable(log.keys),
      ...(log.closed ?? []).toReversed().map(closedLog), closing(log)];
  });
  return panel(t('log.title'), place);
}

const keyTable = (keys) =>
  table(t('log.keys'), [t('log.vkey'), t('log.state'), t('log.since')], keys.map((k) => [
    h('code', {}, k.vkey), h('span', { class: 'badge' }, t(k.retired ? 'log.retired' : 'log.signs')), time(k.since)]));

/** closedLog shows a log that the present one continues, with the statement that the present keys sign. */
const closedLog = (one) => h('section', { class: 'closed-log' },
  h('h3', {}, t('log.closed', { origin: one.origin })),
  facts(
    [t('log.closedAt'), time(one.closed)],
    [t('log.reason'), one.reason],
    one.size > 0 && [t('log.size'), String(one.size)],
    one.size > 0 && [t('log.root'), hash(one.root)]),
  one.size > 0 ? null : h('p', { class: 'hint' }, t('log.notContinued')),
  one.statement && [h('p', {}, t('log.statement')), commandLine(one.statement, t('copy.statement'))]);

/** closing explains how to close the log after the theft of a key. */
const closing = (log) => h('details', { class: 'plain' }, h('summary', {}, t('log.close')),
  h('p', {}, t('log.close.text')),
  commandLine(`chainstore log close ${nextName(log)} --reason "key stolen" --trusted monday.checkpoint ` +
    '--admin-token-file admin.token', t('copy.command')),
  h('p', { class: 'hint' }, t('log.close.after')));

/** nextName proposes the name of the log that continues this one: with the next number at its end. */
function nextName(log) {
  const used = new Set([log.origin, ...(log.closed ?? []).map((one) => one.origin)]);
  const base = log.origin.replace(/\/\d+$/, '');
  let number = 2;
  while (used.has(`${base}/${number}`)) number++;
  return `${base}/${number}`;
}
