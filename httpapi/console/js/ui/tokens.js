// The dialog for tokens.

import { Problem, getJSON } from '../api.js';
import { t } from '../i18n.js';
import { entered, session, setSession, setToken } from '../settings.js';
import { issuer, signIn } from '../signin.js';
import { toast } from './announce.js';
import { dialog } from './dialog.js';
import { h, newId, replace } from './dom.js';

/** userPart shows who is signed in, or a button to sign in; nothing if the masters have no issuer. */
function userPart(close) {
  const user = session();
  if (!user) {
    if (!issuer.available) return null;
    return h('div', { class: 'field' }, signInButton(), h('p', { class: 'hint' },
      t('signIn.where', { issuer: new URL(issuer.issuer).host })));
  }
  const role = user.role === 'project' ? '' : ` (${user.role})`;
  const id = newId('project');
  return [
    h('p', { id: 'signed-in' }, t('signIn.as', { name: user.name }), role),
    user.projects.length > 1
      ? h('div', { class: 'field' }, h('label', { for: id }, t('signIn.project')),
        h('select', { id, name: 'session-project', onchange: (event) =>
          setSession({ ...session(), project: event.target.value }) },
        user.projects.map(({ project }) =>
          h('option', { value: project, selected: project === user.project }, project))))
      : null,
    h('div', { class: 'dialog-do' }, h('button', { type: 'button', class: 'button', onclick: () => {
      setSession(null);
      close();
      toast(t('signIn.out'));
    } }, t('signIn.leave'))),
  ];
}

/** signInButton leaves the page for that of the issuer. */
export const signInButton = () =>
  h('button', { type: 'button', class: 'button primary', onclick: () => signIn() }, t('signIn.do'));

/** slots are the two tokens of the console. */
const slots = ['project', 'admin'];

/** askForToken opens the dialog with the focus on the named slot. */
export const askForToken = (slot = 'project') =>
  dialog(t('token.title'), (close) => {
    const inputs = Object.fromEntries(slots.map((name) => [name, tokenInput(name, name === slot)]));
    const form = h('form', {
      onsubmit: (event) => {
        event.preventDefault();
        for (const name of slots) if (inputs[name].value !== entered(name)) setToken(name, inputs[name].value);
        close();
        toast(t('token.kept'));
      },
    },
    userPart(close),
    h('p', {}, t('token.why')),
    slots.map((name) => labelled(name, inputs[name])),
    h('p', { class: 'hint' }, t('token.where')),
    h('div', { class: 'dialog-do' },
      h('button', { type: 'button', class: 'button', onclick: () => forget(close) }, t('token.forget')),
      h('button', { type: 'submit', class: 'button primary' }, t('token.use'))));
    return form;
  });

const tokenInput = (name, focused) =>
  h('input', {
    type: 'password', id: newId('token'), autocomplete: 'off', spellcheck: 'false', class: 'mono', autofocus: focused,
      value: entered(name),
    name: `token-${name}`,
  });

function labelled(name, input) {
  const told = h('p', { class: 'hint', id: `${input.id}-hint` }, t(`token.${name}.hint`));
  input.setAttribute('aria-describedby', told.id);
  input.addEventListener('change', () => describe(input.value.trim(), told, name));
  return h('div', { class: 'field' }, h('label', { for: input.id }, t(`token.${name}`)), input, told);
}

/** describe names the owner of a token, if the masters report it. */
async function describe(text, told, name) {
  replace(told, t(`token.${name}.hint`));
  if (!text) return;
  try {
    const me = await getJSON('/v1/me', { as: 'none', headers: { Authorization: `Bearer ${text}` } });
    if (me.role === 'project') {
      replace(told,
        t('token.isProject', { name: me.project.name, rights: me.rights.map((r) => t(`rights.${r}`)).join(', ') }));
    } else {
      replace(told, t('token.isRole', { role: t(`role.${me.role}`) }));
    }
  } catch (error) {
    if (error instanceof Problem && error.status === 401) replace(told, t('token.unknown'));
  }
}

function forget(close) {
  for (const name of slots) setToken(name, '');
  setSession(null);
  close();
  toast(t('token.forgotten'));
}
