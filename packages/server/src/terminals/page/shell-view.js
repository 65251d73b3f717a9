// One tab: xterm on one side, the connection on the other.

import { FitAddon } from './addon-fit.js'
import { guardOutput, harmlessPaste, isFocusReport, openableLink } from './hostile-output.js'
import { ShellConnection } from './shell-connection.js'
import { Terminal } from './xterm.js'

const LIGHT = {
  background: '#ffffff',
  foreground: '#1c1f24',
  cursor: '#1c1f24',
  cursorAccent: '#ffffff',
  selectionBackground: '#1d5fbf44',
  black: '#1c1f24',
  red: '#b3261e',
  green: '#1a7f37',
  yellow: '#8a6100',
  blue: '#1d5fbf',
  magenta: '#8431a8',
  cyan: '#0e7490',
  white: '#596273',
  brightBlack: '#6b7280',
  brightRed: '#cf3a31',
  brightGreen: '#218c42',
  brightYellow: '#9a6e00',
  brightBlue: '#2f74d8',
  brightMagenta: '#9b45bf',
  brightCyan: '#118aa8',
  brightWhite: '#3d4450',
}
const DARK = {
  background: '#14161a',
  foreground: '#e4e7ec',
  cursor: '#e4e7ec',
  cursorAccent: '#14161a',
  selectionBackground: '#7cacff44',
}

const darkness = matchMedia('(prefers-color-scheme: dark)')
const themeNow = () => (darkness.matches ? DARK : LIGHT)

/**
 * @typedef {object} ViewEvents
 * @property {() => void} onChange
 * @property {(title: string, text: string, yes: string) => Promise<boolean>} ask
 * @property {() => void} onLeave
 */

export class ShellView {
  /** @type {{ kind: string, message: string }} */
  state = { kind: 'connecting', message: 'connecting…' }
  viewers = 1
  #events
  #terminal
  #fit = new FitAddon()
  #connection
  /** Questions in output before this position are answered already. */
  #answerFrom = 0
  /** Of the output that the terminal obeys at this moment. */
  #mayAnswer = false

  /** @param {HTMLElement} element @param {{ agent: string, token: string, shell: string | undefined }} about @param {ViewEvents} events */
  constructor(element, about, events) {
    this.element = element
    this.#events = events
    const terminal = new Terminal({
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
      fontSize: 14,
      scrollback: 5_000,
      theme: themeNow(),
      minimumContrastRatio: 4.5,
      linkHandler: { activate: (_event, link) => void this.#openLink(link) },
    })
    this.#terminal = terminal
    terminal.loadAddon(this.#fit)
    terminal.open(element)
    guardOutput(terminal, (report) => {
      if (this.#mayAnswer) this.#connection.report(report)
    })
    terminal.attachCustomKeyEventHandler((event) => this.#key(event))
    terminal.onData((data) => {
      if (!isFocusReport(data)) this.#type(new TextEncoder().encode(data))
    })
    // The mouse of old programs: characters that stand for bytes.
    terminal.onBinary((data) => this.#type(Uint8Array.from(data, (character) => character.charCodeAt(0))))
    element.addEventListener('paste', (event) => void this.#paste(event), { capture: true })
    darkness.addEventListener('change', () => {
      terminal.options.theme = themeNow()
    })
    new ResizeObserver(() => this.fit()).observe(element)
    this.#connection = new ShellConnection(
      { ...about, size: this.#fittingSize() },
      {
        onState: (state) => {
          this.state = state
          events.onChange()
        },
        onAttached: (attached) => this.#attached(attached),
        onOutput: (position, bytes) => this.#show(position, bytes),
        onSize: ({ cols, rows, viewers }) => {
          this.viewers = viewers
          // In its place among the output: what comes after was written for this size.
          terminal.write('', () => terminal.resize(cols, rows))
          events.onChange()
        },
      },
    )
  }

  get shell() {
    return this.#connection.shell
  }

  focus() {
    this.#terminal.focus()
  }

  fit() {
    if (this.element.hidden || this.element.clientWidth === 0) return
    const { cols, rows } = this.#fittingSize()
    if (cols !== this.#wanted?.cols || rows !== this.#wanted?.rows) this.#connection?.resize({ cols, rows })
    this.#wanted = { cols, rows }
  }
  /** @type {{ cols: number, rows: number } | undefined} */
  #wanted

  retryNow() {
    this.#connection.retryNow()
  }

  hangUp() {
    this.#connection.hangUp()
  }

  close() {
    this.#connection.close()
    this.#terminal.dispose()
  }

  get readsAloud() {
    return this.#terminal.options.screenReaderMode === true
  }
  set readsAloud(on) {
    this.#terminal.options.screenReaderMode = on
  }

  #fittingSize() {
    const { cols, rows } = this.#fit.proposeDimensions() ?? { cols: 80, rows: 24 }
    return { cols: Math.min(Math.max(cols || 80, 2), 1_000), rows: Math.min(Math.max(rows || 24, 1), 500) }
  }

  /** @param {{ is_reset: boolean, prefix: string, cols: number, rows: number, answer_from: number }} attached */
  #attached({ is_reset, prefix, cols, rows, answer_from }) {
    const terminal = this.#terminal
    this.#answerFrom = answer_from
    terminal.write('', () => {
      terminal.resize(cols, rows)
      if (is_reset) terminal.reset()
    })
    if (is_reset) terminal.write(prefix)
    this.#events.onChange()
  }

  /** @param {number} position @param {Uint8Array} bytes */
  #show(position, bytes) {
    // Cut where answering begins: what is asked before has been answered.
    const cut = Math.min(Math.max(this.#answerFrom - position, 0), bytes.length)
    this.#obey(bytes.subarray(0, cut), false)
    this.#obey(bytes.subarray(cut), true)
    this.#terminal.write('', () => this.#connection.shown(position + bytes.length))
  }

  /** What is written is obeyed later, in its turn. @param {Uint8Array} bytes @param {boolean} mayAnswer */
  #obey(bytes, mayAnswer) {
    if (bytes.length === 0) return
    this.#terminal.write('', () => {
      this.#mayAnswer = mayAnswer
    })
    this.#terminal.write(bytes)
  }

  /** @param {Uint8Array} bytes */
  #type(bytes) {
    if (!this.#connection.type(bytes))
      void this.#events.ask('Not sent', 'Too much waits for the program already.', 'OK')
  }

  /** @param {ClipboardEvent} event */
  async #paste(event) {
    event.preventDefault()
    event.stopPropagation()
    const text = harmlessPaste(event.clipboardData?.getData('text/plain') ?? '')
    const runs = /[\r\n]/.test(text) && !this.#terminal.modes.bracketedPasteMode
    if (
      text === '' ||
      (runs && !(await this.#events.ask('Paste several lines? Each may run as a command.', text, 'Paste')))
    )
      return
    this.#terminal.paste(text)
    this.#terminal.focus()
  }

  /** False: not for the program. @param {KeyboardEvent} event */
  #key(event) {
    if (!event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return true
    if (event.code === 'F6') {
      if (event.type === 'keydown') this.#events.onLeave()
      return false
    }
    // Left to the browser, which pastes.
    if (event.code === 'KeyV') return false
    if (event.code !== 'KeyC') return true
    event.preventDefault()
    if (event.type === 'keydown' && this.#terminal.hasSelection()) void copy(this.#terminal.getSelection())
    return false
  }

  /** @param {string} link */
  async #openLink(link) {
    const url = openableLink(link)
    if (url === undefined) await this.#events.ask('This link is not opened: it leads to no web page.', link, 'OK')
    else if (await this.#events.ask('Open this link? It came from the output of a program.', url, 'Open')) {
      window.open(url, '_blank', 'noopener,noreferrer')
    }
  }
}

/** Where the page may not use the clipboard (plain HTTP elsewhere than this machine), the browser's old way. @param {string} text */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  const listener = (/** @type {ClipboardEvent} */ event) => {
    event.clipboardData?.setData('text/plain', text)
    event.preventDefault()
  }
  document.addEventListener('copy', listener, { once: true })
  document.execCommand('copy')
  document.removeEventListener('copy', listener)
}
