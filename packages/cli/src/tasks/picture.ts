/** How a terminal shows pictures, when it can. */
export type PictureProtocol = 'kitty' | 'iterm'

const KITTY_CHUNK = 4096

/** By what terminals say of themselves; undefined for one that is not known to show any. */
export function pictureProtocol(env: Readonly<Record<string, string | undefined>>): PictureProtocol | undefined {
  const program = env['TERM_PROGRAM'] ?? ''
  // Between here and the terminal it would have to be passed on by name.
  if (env['TMUX'] !== undefined || env['TERM']?.startsWith('screen')) return undefined
  if (env['KITTY_WINDOW_ID'] !== undefined || env['TERM'] === 'xterm-kitty' || program === 'ghostty') return 'kitty'
  return ['iTerm.app', 'WezTerm', 'mintty'].includes(program) ? 'iterm' : undefined
}

/**
 * A picture as bytes for the terminal, `rows` high, with the cursor left where it was; undefined when this protocol
 * cannot show its type. `data` is base64.
 */
export function pictureText(
  protocol: PictureProtocol,
  contentType: string,
  data: string,
  rows: number,
): string | undefined {
  // What is not base64 could hold an end of the sequence and then anything.
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(data) || !contentType.startsWith('image/')) return undefined
  switch (protocol) {
    case 'iterm':
      return `\x1b]1337;File=inline=1;height=${rows};preserveAspectRatio=1;doNotMoveCursor=1:${data}\x07`
    case 'kitty':
      // Of encoded pictures it takes PNG only (kitty's graphics protocol, "PNG data").
      return contentType === 'image/png' ? kittyText(data, rows) : undefined
  }
}

/** The picture replaces the one before, which had the same id. */
function kittyText(data: string, rows: number): string {
  const chunks = data.match(new RegExp(`.{1,${KITTY_CHUNK}}`, 'g')) ?? []
  return chunks
    .map((chunk, at) => {
      const more = at < chunks.length - 1 ? 1 : 0
      const head = at === 0 ? `a=T,f=100,i=7321,p=1,C=1,q=2,r=${rows},m=${more}` : `m=${more}`
      return `\x1b_G${head};${chunk}\x1b\\`
    })
    .join('')
}
