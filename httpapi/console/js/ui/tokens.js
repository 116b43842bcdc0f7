// The dialog for tokens.

import { Problem, getJSON } from '../api.js';
import { t } from '../i18n.js';
import { setToken, token } from '../settings.js';
import { toast } from './announce.js';
import { dialog } from './dialog.js';
import { h, newId, replace } from './dom.js';

/** slots are the two tokens of the console. */
const slots = ['project', 'admin'];

/** askForToken opens the dialog with the focus on the named slot. */
export const askForToken = (slot = 'project') =>
  dialog(t('token.title'), (close) => {
    const inputs = Object.fromEntries(slots.map((name) => [name, tokenInput(name, name === slot)]));
    const form = h('form', {
      onsubmit: (event) => {
        event.preventDefault();
        for (const name of slots) if (inputs[name].value !== token(name)) setToken(name, inputs[name].value);
        close();
        toast(t('token.kept'));
      },
    },
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
      value: token(name),
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
  close();
  toast(t('token.forgotten'));
}
