// The browser's half of `LiveHTML`, in nbs/library/ship/24_page.ipynb

function render({ model, el }) {
  el.classList.add('bearclf-live');
  el.setAttribute('role', 'status');
  const show = () => {
    el.innerHTML = model.get('html');
  };
  model.on('change:html', show);
  show();
  return () => model.off('change:html', show);
}

export default { render };
