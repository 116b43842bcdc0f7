// The console: a frame around one page at a time.

import { connection } from './api.js';
import { applyLanguage, language, languageEvents, languages, setLanguage, t } from './i18n.js';
import { add } from './pages/add.js';
import { admin } from './pages/admin.js';
import { audit } from './pages/audit.js';
import { block } from './pages/block.js';
import { chain } from './pages/chain.js';
import { find } from './pages/find.js';
import { integrity } from './pages/integrity.js';
import { overview } from './pages/overview.js';
import { projects } from './pages/projects.js';
import { record } from './pages/record.js';
import { current, href } from './router.js';
import { entered, session, setTheme, theme, themes, tokenEvents } from './settings.js';
import { SignInError, findIssuer, finishSignIn, issuer, takeAnswer } from './signin.js';
import { startStatus, status } from './status.js';
import { announce, announcer, toast } from './ui/announce.js';
import { h, replace, update } from './ui/dom.js';
import { icon } from './ui/icons.js';
import { dialog } from './ui/dialog.js';
import { empty, explain, head, refreshTimes } from './ui/parts.js';
import { hostOf } from './ui/picture.js';
import { askForToken } from './ui/tokens.js';
import { watchCluster } from './ui/watch.js';

/**
 * pages has the pages by the first part of their address. at is the highlighted entry of the navigation. Each page
 * function is called with the page's context.
 */
const pages = {
  overview: { open: overview, at: 'overview' },
  chain: { open: chain, at: 'chain' },
  block: { open: block, at: 'chain' },
  record: { open: record, at: 'chain' },
  index: { open: record, at: 'chain' },
  add: { open: add, at: 'add' },
  find: { open: find, at: 'find' },
  projects: { open: projects, at: 'projects' },
  audit: { open: audit, at: 'audit' },
  integrity: { open: integrity, at: 'integrity' },
  admin: { open: admin, at: 'admin' },
};

const entries = ['overview', 'chain', 'add', 'find', 'projects', 'audit', 'integrity', 'admin'];

const main = h('main', { id: 'main' });
const frame = h('div', { class: 'frame' });
let leave = new AbortController(); // aborted when the current page is left
let redraw = new AbortController(); // aborted when the frame is redrawn in another language

/** drawFrame draws the frame around the pages in the current language. */
function drawFrame() {
  applyLanguage();
  redraw.abort();
  redraw = new AbortController();
  replace(frame,
    h('a', { class: 'skip', href: '#main', onclick: skip }, t('nav.skip')),
    h('header', { class: 'top' },
      h('a', { class: 'brand', href: href('overview') },
        h('img', { src: '/console/icon.svg', alt: '', width: 24, height: 24 }), 'ChainStore'),
      h('nav', { 'aria-label': t('nav.label') },
        h('ul', {},
          entries.map((name) => h('li', {}, h('a', { href: href(name), 'data-page': name }, t(`nav.${name}`)))))),
      h('div', { class: 'tools' }, connectionSign(), languageChoice(), themeButton(), tokenButton())),
    main);
}

/** skip moves the focus past the navigation. The address does not change, since it selects the page. */
function skip(event) {
  event.preventDefault();
  main.querySelector('h1')?.focus();
}

function connectionSign() {
  const text = h('span', { class: 'connection-text' });
  const node = h('span', { class: 'connection' }, h('span', { class: 'dot' }), text);
  const show = () => {
    const bad = connection.lost || (status.problem && status.problem.status !== 401);
    node.classList.toggle('lost', Boolean(bad));
    update(text, connection.lost ? t('connection.none') : hostOf(connection.master));
    node.title = connection.lost ? t('connection.lost') : t('connection.to', { master: connection.master });
  };
  show();
  status.addEventListener('change', show, { signal: redraw.signal });
  return node;
}

const languageChoice = () =>
  h('div', { class: 'choice', role: 'group', 'aria-label': t('language.label') },
    Object.entries(languages).map(([code, name]) =>
      h('button', { type: 'button', lang: code, 'aria-pressed': String(code === language()), onclick: () =>
        setLanguage(code) },
        code === 'en' ? h('abbr', { title: name }, 'EN') : h('abbr', { title: name }, '中'))));

function themeButton() {
  const node = h('button', { type: 'button', class: 'button quiet' });
  const show = () => {
    replace(node, icon(theme()));
    const text = t('theme.is', { theme: t(`theme.${theme()}`) });
    node.setAttribute('aria-label', text);
    node.title = text;
  };
  node.addEventListener('click', () => {
    setTheme(themes[(themes.indexOf(theme()) + 1) % themes.length]);
    show();
    announce(t('theme.is', { theme: t(`theme.${theme()}`) }));
  });
  show();
  return node;
}

function tokenButton() {
  const text = h('span', { class: 'token-text' });
  const node = h('button', { type: 'button', class: 'button', id: 'token-button', onclick: () => askForToken() },
    icon('key'), text);
  const show = () => {
    const held = ['project', 'admin'].filter((slot) => entered(slot)).map((slot) => t(`token.${slot}.short`));
    if (session()) held.unshift(session().name);
    update(text, held.length ? held.join(' + ') : t(issuer.available ? 'signIn.do' : 'token.none'));
    node.classList.toggle('primary', held.length === 0);
    node.setAttribute('aria-label', `${t('token.title')}: ${text.textContent}`);
  };
  show();
  for (const [source, event] of [[tokenEvents, 'change'], [tokenEvents, 'ended'], [issuer, 'change']]) {
    source.addEventListener(event, show, { signal: redraw.signal });
  }
  return node;
}

/**
 * openPage shows the page of the address. focus moves the focus to its heading after a navigation, but not after a
 * redraw.
 */
function openPage(focus) {
  leave.abort();
  leave = new AbortController();
  const { parts, query } = current();
  const page = pages[parts[0] ?? 'overview'];
  const context = { parts: parts.slice(1), query, signal: leave.signal, redraw: () => openPage(false) };
  const { title, node } = page ? page.open(context) : lostWay();
  document.title = `${title} · ChainStore`;
  for (const link of frame.querySelectorAll('nav a')) {
    if (link.dataset.page === page?.at) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  replace(main, node);
  if (!focus) return;
  scrollTo(0, 0);
  main.querySelector('h1')?.focus({ preventScroll: true });
}

const lostWay = () =>
  ({ title: t('lostWay'),
    node: [head(t('lostWay')), empty(t('lostWay.text'), h('a', { href: href('overview') }, t('nav.overview')))] });

/** endSignIn completes what signIn began, and shows why it failed. */
async function endSignIn(answer) {
  try {
    await finishSignIn(answer);
    toast(t('signIn.as', { name: session().name }));
  } catch (error) {
    const known = error instanceof SignInError;
    if (!known && !('status' in error)) throw error; // a bug of the console: the browser logs it
    await dialog(t('signIn.failed'), (close) => [
      h('p', {}, known ? t(error.key, { origin: location.origin }) : explain(error)),
      error.detail ? h('p', { class: 'problem-detail' }, error.detail) : null,
      h('div', { class: 'dialog-do' },
        h('button', { type: 'button', class: 'button primary', onclick: () => close() }, t('signIn.close'))),
    ]);
  }
}

document.body.append(frame, ...announcer);
const answer = takeAnswer(); // before the page is chosen by the address
drawFrame();
openPage(false);
addEventListener('hashchange', () => openPage(true));
tokenEvents.addEventListener('change', () => openPage(false));
tokenEvents.addEventListener('ended', () => toast(t('signIn.ended')));
languageEvents.addEventListener('change', () => {
  drawFrame();
  openPage(false);
  frame.querySelector('[aria-pressed="true"]').focus();
});
status.addEventListener('change', refreshTimes);
watchCluster();
startStatus();
findIssuer();
if (answer) endSignIn(answer);
