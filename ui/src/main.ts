import { mount } from 'svelte'
import './app.css'
import App from './App.svelte'
import { takeToken } from './lib/api'

takeToken()
mount(App, { target: document.getElementById('app')! })

// The address of a restarted Fettle, pasted into this tab, changes only the part after `#`.
window.addEventListener('hashchange', () => {
  if (takeToken()) location.reload()
})
