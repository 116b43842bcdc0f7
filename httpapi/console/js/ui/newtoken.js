// A token that was just created.

import { t } from '../i18n.js';
import { setToken } from '../settings.js';
import { toast } from './announce.js';
import { dialog } from './dialog.js';
import { h } from './dom.js';
import { button, copyButton } from './parts.js';

/**
 * showToken shows a new token, only once. usable adds a button to use it as the project token of this page. once and
 * copy are the texts for another secret than a token.
 */
export function showToken(title, text, usable, { once = t('token.once'), copy = t('copy.token') } = {}) {
  return dialog(title, (close) => [
    h('p', {}, once),
    h('p', { class: 'token-shown' }, h('code', { 'data-copy': true, id: 'new-token' }, text), copyButton(text, copy)),
    h('div', { class: 'dialog-do' },
      usable && button(t('token.useNow'), () => {
        close();
        setToken('project', text);
        toast(t('token.kept'));
      }, { kind: 'primary' }),
      button(t('token.noted'), () => close())),
  ]);
}
