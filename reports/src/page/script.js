// Comforts only: the page says all that it has to say without this.
'use strict';
for (const box of document.querySelectorAll('.run')) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = 'Copy';
  button.setAttribute('aria-label', 'Copy the command ' + box.querySelector('code').textContent.trim());
  const said = document.createElement('span');
  said.setAttribute('role', 'status');
  said.className = 'soft';
  button.addEventListener('click', async () => {
    const code = box.querySelector('code');
    try {
      await navigator.clipboard.writeText(code.textContent.trim());
      said.textContent = 'copied';
    } catch {
      // A page from a file may not write there: then it is at least selected, and Ctrl-C does it.
      getSelection().selectAllChildren(code);
      said.textContent = 'selected';
    }
    setTimeout(() => { said.textContent = ''; }, 2000);
  });
  box.append(button, said);
}
for (const table of document.querySelectorAll('table[data-sort]')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute('aria-sort', 'none');
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') === 'ascending';
      heads.forEach((other) => other.setAttribute('aria-sort', 'none'));
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        // What has no value comes last, whichever way it is sorted.
        if (x === '' || y === '') return (x === '') - (y === '');
        const number = Number(x) - Number(y);
        const found = Number.isNaN(number) ? x.localeCompare(y) : number;
        return down ? -found : found;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    });
  });
}
// A link to something that is folded away unfolds it.
const unfold = () => {
  const there = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let box = there; box; box = box.parentElement) if (box.tagName === 'DETAILS') box.open = true;
};
addEventListener('hashchange', unfold);
unfold();
