// What a program writes may be anything: a log, a file somebody sent, a hostile page. A terminal obeys escape sequences in it,
// and answers some of them as if its user had typed. Here is decided what of that stays (docs/terminal.md, "Hostile output").

const ESC = '\u001b'
/** Longer reports than a terminal of ours ever makes; they would be typed by the program itself. */
const FOCUS_REPORTS = [`${ESC}[I`, `${ESC}[O`]

/**
 * Replaces every handler of the terminal that would answer, take the title or ask the window for something. `answer` is given
 * the three reports that stay: what the terminal is, that it is well, where its cursor stands. Fixed but for two numbers,
 * without a line's end, they run no command; fish and prompt_toolkit wait for them.
 * @param {import('@xterm/xterm').Terminal} terminal
 * @param {(report: string) => void} answer
 */
export function guardOutput(terminal, answer) {
  const { parser } = terminal
  const swallow = () => true
  parser.registerCsiHandler({ final: 'c' }, (params) => {
    if ((params[0] ?? 0) === 0) answer(`${ESC}[?1;2c`)
    return true
  })
  parser.registerCsiHandler({ final: 'n' }, (params) => {
    const { cursorX, cursorY } = terminal.buffer.active
    if (params[0] === 5) answer(`${ESC}[0n`)
    if (params[0] === 6) answer(`${ESC}[${cursorY + 1};${Math.min(cursorX + 1, terminal.cols)}R`)
    return true
  })
  for (const prefix of ['>', '=', '?']) parser.registerCsiHandler({ prefix, final: 'c' }, swallow)
  for (const prefix of ['?', '>']) parser.registerCsiHandler({ prefix, final: 'n' }, swallow)
  parser.registerCsiHandler({ intermediates: '$', final: 'p' }, swallow)
  parser.registerCsiHandler({ prefix: '?', intermediates: '$', final: 'p' }, swallow)
  for (const prefix of ['>', '?', '=', '<']) parser.registerCsiHandler({ prefix, final: 'u' }, swallow)
  parser.registerCsiHandler({ prefix: '>', final: 'q' }, swallow)
  for (const final of ['t', 'x']) parser.registerCsiHandler({ final }, swallow)
  for (const final of ['q', 'p']) parser.registerDcsHandler({ intermediates: '$', final }, swallow)
  for (const final of ['q', 'p']) parser.registerDcsHandler({ intermediates: '+', final }, swallow)
  parser.registerEscHandler({ final: 'Z' }, swallow)
  // Titles and icon names, working directories, colours (and questions for them), notifications, clipboards, fonts, and what
  // shells of single vendors brought. Of the operating system commands only links (8) are left to the terminal.
  for (let command = 0; command < 2_000; command++) {
    if (command !== 8) parser.registerOscHandler(command, swallow)
  }
}

/**
 * Whether the terminal made this by itself when it got or lost the focus. Nothing typed looks like it.
 * @param {string} data
 */
export const isFocusReport = (data) => FOCUS_REPORTS.includes(data)

/**
 * Text from the clipboard without what could end a bracketed paste, or press a key that nobody sees.
 * @param {string} pasted
 */
export function harmlessPaste(pasted) {
  return [...pasted].filter((character) => !isControl(character.codePointAt(0) ?? 0)).join('')
}

/** All but tab and the ends of lines. @param {number} code */
function isControl(code) {
  return (code < 0x20 && code !== 9 && code !== 10 && code !== 13) || (code >= 0x7f && code < 0xa0)
}

/** The address to open for a link in output: http and https only. @param {string} link */
export function openableLink(link) {
  const url = URL.parse(link)
  return url?.protocol === 'http:' || url?.protocol === 'https:' ? url.href : undefined
}
