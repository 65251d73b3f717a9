/** What hostile output may hold, by what it is after. Each is written by a program to the terminal of whoever looks on. */

const ESC = '\x1b'
const BEL = '\x07'
const ST = '\x1b\\'
const text = 'cm0gLXJmIH4=' // what an attacker would want on the clipboard

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at)

const clipboard = ['c', 'p', 's', 'q', '0', '7', 'cs', ''].flatMap((selection) => [
  `${ESC}]52;${selection};${text}${BEL}`,
  `${ESC}]52;${selection};?${ST}`,
])
const titles = [0, 1, 2, 3, 6, 7, 9, 21, 22].flatMap((command) => [
  `${ESC}]${command};owned; rm -rf ~${BEL}`,
  `${ESC}]${command};?${ST}`,
])
const colours = [4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19].map((command) =>
  command < 10 ? `${ESC}]${command};1;?${BEL}` : `${ESC}]${command};?${ST}`,
)
const vendors = [50, 51, 60, 61, 66, 99, 133, 176, 555, 633, 666, 697, 777, 1337, 1338, 1999].map(
  (command) => `${ESC}]${command};Copy=:${text}${BEL}`,
)
const windows = range(1, 24).map((operation) => `${ESC}[${operation};100;100t`)
const attributes = ['>c', '=c', '>0c', '>1c', '?1c', '?2c', '=0c'].map((question) => `${ESC}[${question}`)
const statuses = [
  '?6n',
  '?15n',
  '?25n',
  '?26n',
  '?53n',
  '?55n',
  '?56n',
  '?62n',
  '?63n',
  '?75n',
  '?85n',
  '?996n',
  '>0n',
].map((question) => `${ESC}[${question}`)
const modes = ['?1', '?7', '?25', '?47', '?1000', '?1006', '?1049', '?2004', '?2026', '?2027', '?2031', '4', '20'].map(
  (mode) => `${ESC}[${mode}$p`,
)
const settings = ['m', 'r', 's', 't', ' q', '"p', '"q', 'x; rm -rf ~'].map((setting) => `${ESC}P$q${setting}${ST}`)
const capabilities = ['544e', '436f', '524742', '6b31'].map((name) => `${ESC}P+q${name}${ST}`)
const others = [
  `${ESC}Z`,
  '\x05',
  `${ESC}[x`,
  `${ESC}[1x`,
  `${ESC}[>q`,
  `${ESC}[>0q`,
  `${ESC}[?u`,
  `${ESC}[>1u`,
  `${ESC}[>4;2m`,
  `${ESC}[?4m`,
  `${ESC}[1*y`,
  `${ESC}[1;1;1;1;1;1*y`,
  `${ESC}[&u`,
  `${ESC}[1$w`,
  `${ESC}[2$w`,
  `${ESC}[21;2$u`,
  `${ESC}_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA${ST}`,
  `${ESC}_Ga=q;${ST}`,
  `${ESC}^rm -rf ~${ST}`,
  `${ESC}Xrm -rf ~${ST}`,
  `${ESC}P1000p${ST}`,
  `${ESC}P0;1|17/72${ST}`,
  `${ESC}P1$tx${ST}`,
  `${ESC}[?1004h${ESC}[?1004l${ESC}[?1004h`,
  `${ESC}[?1004;2004h`,
  `\x9b>c`,
  `\x9d0;owned\x9c`,
  `\x9d52;c;${text}\x9c`,
  `\x90$qm\x9c`,
  `${ESC}]8;;javascript:alert(1)${ST}link${ESC}]8;;${ST}`,
  `${ESC}]8;;https://evil.example/${ST}link${ESC}]8;;${ST}`,
  `${ESC}[5i${ESC}[4i`,
  `${ESC}[?5i`,
  `${ESC}[1;0c${ESC}c${ESC}[>c`,
  `${ESC}[6;6;6;6;6;6n`.replace('6;6;6;6;6;6', '?6;6'),
  `${ESC}]0;${'A'.repeat(5_000)}${BEL}`,
  `${ESC}]52;c;${'A'.repeat(5_000)}${BEL}`,
  `${ESC}]2;unterminated title${ESC}[>c`,
  `${ESC}P$q${'m'.repeat(2_000)}${ST}`,
  `${ESC}[${'1;'.repeat(500)}$p`,
  `${ESC}[201~`,
  `${ESC}[200~rm -rf ~\r${ESC}[201~`,
]

/** Nothing may come back for any of these. */
export const HOSTILE_SEQUENCES: readonly string[] = [
  ...[clipboard, titles, colours, vendors, windows, attributes, statuses, modes, settings, capabilities, others].flat(),
]

/** What is answered, and with what: docs/terminal.md says why. */
export const ANSWERED_SEQUENCES: readonly (readonly [string, RegExp])[] = [
  [`${ESC}[c`, /^\[\?1;2c$/],
  [`${ESC}[0c`, /^\[\?1;2c$/],
  [`${ESC}[5n`, /^\[0n$/],
  [`${ESC}[6n`, /^\[\d+;\d+R$/],
]
