// The checks themselves: each answers with a list of what is wrong, empty when nothing is.

/** Listens from now on: the answer is called at the end. */
export function silence(page, file) {
  const heard = [];
  page.on('request', (request) => {
    const url = request.url();
    const own = url.startsWith('file://') && decodeURIComponent(new URL(url).pathname) === file;
    if (!own && !url.startsWith('data:')) heard.push(`it asks for ${url}`);
  });
  page.on('console', (message) => { if (message.type() === 'error') heard.push(`error: ${message.text()}`); });
  page.on('pageerror', (error) => heard.push(`error: ${error.message}`));
  return () => [...heard];
}

/** Everything that axe can find, good habits included. */
export async function accessibility(page, axe) {
  await page.evaluate(axe);
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
  const found = await page.evaluate((values) => window.axe.run(document, { runOnly: { type: 'tag', values }, resultTypes: ['violations'] }), tags);
  return found.violations.flatMap((it) => it.nodes.map((node) => `${it.id} (${it.impact}): ${node.target.join(' ')}: ${node.failureSummary.replaceAll('\n', ' ')}`));
}

/** What is wider than the window, but for what scrolls within itself. */
export function overflow(page) {
  return page.evaluate(() => {
    const wide = document.documentElement.clientWidth;
    const wrong = [];
    if (document.documentElement.scrollWidth > wide) wrong.push(`the page is ${document.documentElement.scrollWidth} px wide in a window of ${wide}`);
    for (const element of document.querySelectorAll('body *')) {
      if (element.parentElement.closest('.scroll, svg') || element.matches('.skip')) continue;
      const box = element.getBoundingClientRect();
      if (box.width > 0 && box.right > wide + 1) wrong.push(`${element.tagName} ${element.className} reaches to ${Math.round(box.right)} px`);
    }
    return wrong.slice(0, 8);
  });
}

/** Goes through the page with Tab: everything that can be used is met, in order, and shows that it has the focus. */
export async function keyboard(page) {
  const wanted = await page.evaluate(() => {
    const shown = (element) => element.checkVisibility() && getComputedStyle(element).visibility !== 'hidden';
    const all = [...document.querySelectorAll('a[href], button, summary, [tabindex="0"]')].filter(shown);
    all.forEach((element, at) => { element.dataset.at = String(at); });
    document.activeElement?.blur?.();
    return all.length;
  });
  const wrong = [];
  const about = () => page.evaluate(() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    return {
      at: element.dataset.at,
      name: `${element.tagName} ${element.textContent.trim().slice(0, 40)}`,
      seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 && box.bottom > 0 && box.top < innerHeight,
    };
  });
  for (let at = 0; at < wanted && wrong.length < 4; at += 1) {
    await page.keyboard.press('Tab');
    const found = await about();
    if (found.at !== String(at)) wrong.push(`Tab number ${at + 1} of ${wanted} leads to ${found.name}, which is number ${found.at}`);
    else if (!found.seen) wrong.push(`${found.name} does not show that it has the focus`);
  }
  return wrong;
}

/** Copies a command, and sorts every table both ways. */
export async function comforts(page) {
  const wrong = [];
  const copy = page.locator('.run button').first();
  if (await copy.count() > 0) {
    await copy.click();
    const said = await page.locator('.run [role=status]').first().textContent({ timeout: 2000 });
    const told = said || await page.locator('.run [role=status]').first().evaluate((it) => new Promise((done) => setTimeout(() => done(it.textContent), 300)));
    if (!/copied|selected/.test(told)) wrong.push(`after Copy it says ${JSON.stringify(told)}`);
  }
  for (const table of await page.locator('table[data-sort]').all()) {
    const sorted = await table.evaluate((it) => {
      const found = [];
      [...it.tHead.rows[0].cells].forEach((head, column) => {
        for (const way of ['ascending', 'descending']) {
          head.querySelector('button').click();
          if (head.getAttribute('aria-sort') !== way) { found.push(`${head.textContent} is not sorted ${way}`); return; }
          const values = [...it.tBodies[0].rows].map((row) => row.cells[column].dataset.value ?? '').filter((value) => value !== '').map(Number);
          const right = [...values].sort((a, b) => (way === 'ascending' ? a - b : b - a));
          if (values.join() !== right.join()) found.push(`${head.textContent} ${way}: ${values.join()}`);
        }
      });
      return found;
    });
    wrong.push(...sorted);
  }
  return wrong;
}

/** Where the parts of the layout are: [x, y, width, height] by name. */
export function boxes(page) {
  return page.evaluate(() => {
    scrollTo(0, 0);
    const found = {};
    for (const element of document.querySelectorAll('[data-box]')) {
      const box = element.getBoundingClientRect();
      (found[element.dataset.box] ??= []).push([box.x, box.y + scrollY, box.width, box.height].map(Math.round));
    }
    return found;
  });
}

/** Across they must agree to 4 px; down, where a browser's version can break a line elsewhere, to 24 px and a tenth. */
export function compare(known, found) {
  if (!known) return ['no layout is kept for it: --update-boxes keeps one'];
  const wrong = [];
  for (const name of new Set([...Object.keys(known), ...Object.keys(found)])) {
    const [right, is] = [known[name] ?? [], found[name] ?? []];
    if (right.length !== is.length) wrong.push(`${name}: ${is.length} parts, ${right.length} before`);
    right.slice(0, is.length).forEach((box, at) => {
      const off = box.map((value, side) => Math.abs(value - is[at][side]));
      if (off[0] > 4 || off[2] > 4 || off[1] > 24 + box[1] / 10 || off[3] > 24 + box[3] / 10) wrong.push(`${name}: at ${is[at]}, before at ${box}`);
    });
  }
  return wrong;
}
