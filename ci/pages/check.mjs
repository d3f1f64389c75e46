// Looks at pages in a headless Chromium, as people with different devices do:
//
//   node check.mjs DIR                  all pages below a folder
//   node check.mjs DIR --update-boxes   and takes the layout that it finds for the right one (boxes.json)
//   node check.mjs DIR --screens OUT    and leaves pictures of them
//
// Each page, on a phone and on a desk, in light and in dark: no violation that axe can find, nothing wider than the window, no request to
// anywhere, no error; everything that can be used is reached by Tab, in order, and shows that it is; it says the same without its script; its
// parts are where boxes.json has them. First every check is given a page with a defect that it must find. MODULES names the folder of the
// modules; each line of the output is a check, the last one counts them.
import { createRequire } from 'node:module';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { accessibility, boxes, comforts, compare, keyboard, overflow, silence } from './checks.mjs';

const require = createRequire(join(process.env.MODULES ?? '.', 'modules.cjs'));
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const BOXES = fileURLToPath(new URL('boxes.json', import.meta.url));
const WINDOWS = { phone: { width: 360, height: 740 }, desk: { width: 1280, height: 900 } };
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

const [dir, ...options] = process.argv.slice(2);
const update = options.includes('--update-boxes');
const screens = options.includes('--screens') ? options[options.indexOf('--screens') + 1] : undefined;
let passed = 0;
const failures = [];

/** Counts one check: `wrong` is a list of what is wrong. */
function told(name, wrong) {
  if (wrong.length === 0) { passed += 1; return; }
  failures.push(name);
  console.log(`FAILED ${name}`);
  for (const line of wrong) console.log(`  ${line}`);
}

async function opened(browser, file, settings) {
  const context = await browser.newContext({ viewport: settings.window, colorScheme: settings.scheme ?? 'light', javaScriptEnabled: settings.script ?? true,
    reducedMotion: 'reduce' });
  const page = await context.newPage();
  const heard = silence(page, file);
  await page.goto(pathToFileURL(file).href);
  return { page, heard, close: () => context.close() };
}

/** All checks of one page in one window and scheme. */
async function look(browser, root, file, kind, scheme, known) {
  const name = `${relative(root, file)}, ${kind}, ${scheme}`;
  const { page, heard, close } = await opened(browser, file, { window: WINDOWS[kind], scheme });
  told(`${name}: nothing is wider than the window`, await overflow(page));
  // Before the keyboard, which scrolls tables: their first column then hides a part of the others.
  told(`${name}: axe finds nothing`, await accessibility(page, AXE));
  if (scheme === 'light') {
    const key = `${relative(root, file)} ${kind}`;
    const found = await boxes(page);
    if (update) known[key] = found;
    told(`${name}: the layout is as it was`, compare(known[key], found));
    told(`${name}: everything is reached by keyboard`, await keyboard(page));
  }
  if (kind === 'desk' && scheme === 'light') told(`${name}: buttons copy and sort`, await comforts(page));
  if (screens) await page.screenshot({ path: join(screens, `${name.replaceAll(/[^a-z0-9.-]+/gi, '-')}.png`), fullPage: true });
  told(`${name}: no request, no error`, heard());
  await close();
}

/** A page must say the same without its script. */
async function bare(browser, root, file) {
  const name = `${relative(root, file)}, without script`;
  const { page, heard, close } = await opened(browser, file, { window: WINDOWS.phone, script: false });
  const wrong = await page.locator('main h1, header h1').count() === 1 ? [] : ['there is no heading'];
  if (await page.locator('button').count() > 0) wrong.push('there are buttons that do nothing');
  told(`${name}: it says the same`, [...wrong, ...heard()]);
  await close();
}

// What each check must find. `spoil` runs in the page.
const DEFECTS = [
  ['a wide element', () => { document.querySelector('main').insertAdjacentHTML('beforeend', '<div style="width:2000px">wide</div>'); }, overflow],
  ['text that can hardly be read', () => { document.querySelector('main p').style.color = '#999999'; document.querySelector('main p').style.background = '#aaaaaa'; },
    (page) => accessibility(page, AXE)],
  ['a table that cannot be scrolled by keyboard', () => {
    const box = document.querySelector('[data-box=faults] .scroll');
    box.removeAttribute('tabindex');
    box.style.width = '80px';
  }, (page) => accessibility(page, AXE)],
  ['something that the keyboard does not reach', () => { document.querySelector('main a').tabIndex = -1; }, keyboard],
  ['a focus that cannot be seen', () => { document.querySelector('main a').style.outline = 'none'; }, keyboard],
  ['a part that moved', () => { document.querySelector('[data-box]').style.marginLeft = '90px'; }, undefined],
  ['a part that is gone', () => { document.querySelector('[data-box]').remove(); }, undefined],
];

async function defects(browser, root, file, known) {
  for (const [name, spoil, check] of DEFECTS) {
    const { page, close } = await opened(browser, file, { window: WINDOWS.desk });
    await page.evaluate(spoil);
    const layout = async () => compare(known[`${relative(root, file)} desk`], await boxes(page));
    const wrong = await (check ? check(page) : layout());
    told(`the checks find ${name}`, wrong.length > 0 ? [] : ['it was not found']);
    await close();
  }
  const { page, heard, close } = await opened(browser, file, { window: WINDOWS.desk });
  await page.evaluate(() => new Promise((done) => {
    const image = new Image();
    image.onload = image.onerror = done;
    image.src = 'http://127.0.0.1:9/pixel.png';
    document.body.append(image);
  }));
  told('the checks find a request', heard().length > 0 ? [] : ['it was not found']);
  await close();
}

function pagesBelow(folder) {
  return readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.html')).sort().map((name) => join(folder, name));
}

async function main() {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
  console.log(`Chromium ${browser.version()}, axe-core ${require('axe-core/package.json').version}`);
  const known = update ? {} : JSON.parse(readFileSync(BOXES, 'utf8'));
  const pages = pagesBelow(dir);
  if (pages.length === 0) throw new Error(`there is no page in ${dir}`);
  for (const file of pages) {
    for (const kind of Object.keys(WINDOWS)) for (const scheme of ['light', 'dark']) await look(browser, dir, file, kind, scheme, known);
    await bare(browser, dir, file);
  }
  await defects(browser, dir, join(dir, 'index.html'), known);
  await browser.close();
  // A line a page, so that a change can be read.
  const lines = Object.entries(known).map(([key, found]) => `${JSON.stringify(key)}: ${JSON.stringify(found)}`);
  if (update) writeFileSync(BOXES, `{\n${lines.join(',\n')}\n}\n`);
  console.log(`checks: ${passed} passed, ${failures.length} failed`);
  process.exit(failures.length > 0 ? 1 : 0);
}

await main();
