// The page: who asks, its tabs, and what their shells are doing.

import { copy, ShellView } from './shell-view.js'

/** @template {HTMLElement} T @param {string} id @param {new () => T} type */
function find(id, type) {
  const found = document.getElementById(id)
  if (found instanceof type) return found
  throw new Error(`the page has no ${id}`)
}

const tabs = find('tabs', HTMLElement)
const state = find('state', HTMLElement)
const tools = find('tools', HTMLElement)
const shells = find('shells', HTMLElement)
const signIn = find('sign-in', HTMLFormElement)
const problem = find('problem', HTMLElement)
const agentField = find('agent', HTMLInputElement)
const tokenField = find('token', HTMLInputElement)
const newButton = find('new', HTMLButtonElement)
const readerButton = find('reader', HTMLButtonElement)
const ask = find('ask', HTMLDialogElement)

/** Kept here and nowhere else. */
let secret = ''
let agent = ''
/** @type {string | undefined} */
let shellToJoin
takeFromAddress()

/** @type {{ view: ShellView, tab: HTMLButtonElement, number: number }[]} */
const open = []
/** @type {{ view: ShellView, tab: HTMLButtonElement, number: number } | undefined} */
let current
let opened = 0

function openShell(/** @type {string | undefined} */ shell) {
  const number = ++opened
  const element = document.createElement('section')
  element.className = 'shell'
  element.id = `shell-${number}`
  element.setAttribute('role', 'tabpanel')
  element.setAttribute('aria-label', `Shell ${number} on ${agent}`)
  shells.append(element)
  const tab = document.createElement('button')
  tab.type = 'button'
  tab.role = 'tab'
  tab.textContent = `${agent} ${number}`
  tab.setAttribute('aria-controls', element.id)
  tabs.append(tab)
  for (const { view } of open) view.element.hidden = true
  /** @type {{ view: ShellView, tab: HTMLButtonElement, number: number } | undefined} */
  let entry
  const view = new ShellView(
    element,
    { agent, token: secret, shell },
    {
      onChange: () => changed(entry),
      ask: confirmInDialog,
      onLeave: () => tab.focus(),
    },
  )
  const made = { view, tab, number }
  entry = made
  open.push(made)
  tab.addEventListener('click', () => {
    select(made)
    view.focus()
  })
  select(made)
  view.focus()
}

/** @param {{ view: ShellView, tab: HTMLButtonElement, number: number }} entry */
function select(entry) {
  current = entry
  for (const other of open) {
    const isCurrent = other === entry
    other.view.element.hidden = !isCurrent
    other.tab.setAttribute('aria-selected', String(isCurrent))
    other.tab.tabIndex = isCurrent ? 0 : -1
  }
  entry.view.fit()
  show()
}

/** @param {{ view: ShellView, tab: HTMLButtonElement, number: number } | undefined} entry */
function changed(entry) {
  // While it is being made it has no entry yet; what it says then is said again when it is selected.
  if (!entry || !open.includes(entry)) return
  if (entry.view.state.kind === 'refused') {
    close(entry)
    if (open.length === 0) askWho(entry.view.state.message)
  } else if (entry === current) show()
}

/** @param {{ view: ShellView, tab: HTMLButtonElement, number: number }} entry */
function close(entry) {
  open.splice(open.indexOf(entry), 1)
  entry.view.close()
  entry.view.element.remove()
  entry.tab.remove()
  current = undefined
  const [next] = open
  if (next) select(next)
}

function show() {
  const hasShells = open.length > 0
  signIn.hidden = hasShells
  tools.hidden = !hasShells
  newButton.hidden = !hasShells
  if (!current) return
  const { view } = current
  const { kind, message } = view.state
  const others = view.viewers - 1
  state.textContent =
    kind === 'open'
      ? others > 0
        ? `connected, ${others} more ${others === 1 ? 'looks' : 'look'} on`
        : 'connected'
      : message
  state.className = kind === 'open' || kind === 'connecting' ? '' : 'bad'
  state.dataset['kind'] = kind
  readerButton.setAttribute('aria-pressed', String(view.readsAloud))
  find('end', HTMLButtonElement).textContent = kind === 'ended' ? 'Close tab' : 'End shell'
  rememberInAddress(view.shell)
}

/** @param {string} message */
function askWho(message) {
  show()
  state.textContent = ''
  problem.textContent = message
  agentField.value = agent
  tokenField.value = ''
  secret = ''
  if (agent === '') agentField.focus()
  else tokenField.focus()
}

/** Which shell this is, so that a reload finds it again: the token is not among it. @param {string | undefined} shell */
function rememberInAddress(shell) {
  const about = new URLSearchParams({ ...(agent && { agent }), ...(shell && { shell }) })
  history.replaceState(null, '', about.size === 0 ? location.pathname : `${location.pathname}#${about}`)
}

/** Reads what the address says and takes it out at once: a token there would stay in the history and on the screen. */
function takeFromAddress() {
  const asked = new URLSearchParams(location.hash.slice(1))
  agent = asked.get('agent') ?? agent
  secret = asked.get('token') ?? ''
  shellToJoin = asked.get('shell') ?? undefined
  rememberInAddress(shellToJoin)
}

/** @param {string} title @param {string} text @param {string} yes @returns {Promise<boolean>} */
function confirmInDialog(title, text, yes) {
  find('ask-title', HTMLElement).textContent = title
  find('ask-text', HTMLElement).textContent = text
  find('ask-yes', HTMLButtonElement).textContent = yes
  ask.returnValue = 'no'
  return new Promise((resolve) => {
    ask.addEventListener(
      'close',
      () => {
        resolve(ask.returnValue === 'yes')
        current?.view.focus()
      },
      { once: true },
    )
    ask.showModal()
  })
}

signIn.addEventListener('submit', (event) => {
  event.preventDefault()
  agent = agentField.value.trim()
  secret = tokenField.value.trim()
  tokenField.value = ''
  problem.textContent = ''
  openShell(shellToJoin)
  shellToJoin = undefined
})
newButton.addEventListener('click', () => openShell(undefined))
tabs.addEventListener('keydown', (event) => {
  const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0
  if (step === 0 || !current) return
  const next = open[(open.indexOf(current) + step + open.length) % open.length]
  if (!next) return
  select(next)
  next.tab.focus()
})
find('copy-link', HTMLButtonElement).addEventListener('click', () => {
  void copy(location.href).then(() => {
    state.textContent = 'link copied; whoever opens it needs the token too'
  })
})
readerButton.addEventListener('click', () => {
  if (current) current.view.readsAloud = !current.view.readsAloud
  show()
})
find('end', HTMLButtonElement).addEventListener('click', () => {
  const entry = current
  if (!entry) return
  if (entry.view.state.kind === 'ended') {
    close(entry)
    if (open.length === 0) askWho('')
    return
  }
  void confirmInDialog('End this shell?', 'Everything that was started in it ends, too.', 'End it').then((isSure) => {
    if (isSure) entry.view.hangUp()
  })
})
const retryAll = () => {
  for (const { view } of open) view.retryNow()
}
addEventListener('online', retryAll)
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) retryAll()
})

// A link that was followed while the page was open already.
addEventListener('hashchange', () => {
  takeFromAddress()
  start()
})

function start() {
  if (agent === '' || secret === '') {
    if (open.length === 0) askWho('')
    return
  }
  openShell(shellToJoin)
  shellToJoin = undefined
}
start()
