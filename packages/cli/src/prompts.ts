import type { Context } from './context.ts'
import { CliError } from './errors.ts'

/** More than any password or key; a bound on what standard input may give. */
const STDIN_CHARACTERS = 1024

/** Asks the person at the terminal; without one, says which option gives the answer instead. */
export async function ask(
  context: Context,
  question: { message: string; option: string; hidden?: boolean },
): Promise<string> {
  requireTerminal(context, question.option)
  const { password, text } = await import('@clack/prompts')
  const validate = (value: string | undefined) => (value ? undefined : 'It cannot be empty.')
  const { message } = question
  const answer: string | symbol = await (question.hidden
    ? password({ message, validate })
    : text({ message, validate }))
  if (typeof answer === 'symbol') throw stopped()
  return answer
}

/** Lets the person at the terminal choose; without one, says which option chooses instead. */
export async function choose<T>(
  context: Context,
  question: { message: string; option: string; choices: readonly { value: T; label: string; hint: string }[] },
): Promise<T> {
  requireTerminal(context, question.option)
  const { select } = await import('@clack/prompts')
  const numbered = question.choices.map(({ label, hint }, value) => ({ value, label, hint }))
  const answer: number | symbol = await select({ message: question.message, options: numbered })
  if (typeof answer === 'symbol') throw stopped()
  const chosen = question.choices[answer]
  if (chosen === undefined) throw new Error('a choice that was not offered')
  return chosen.value
}

/** Standard input to its end, without the line break: a password or a key from a script. */
export async function readStdin(context: Context): Promise<string> {
  let text = ''
  for await (const chunk of context.stdin.setEncoding('utf8')) {
    text += String(chunk)
    if (text.length > STDIN_CHARACTERS) break
  }
  const line = text.replace(/\r?\n$/, '')
  if (text.length > STDIN_CHARACTERS || /[\r\n]/.test(line)) {
    throw new CliError('usage', 'usage', 'standard input holds more than one line')
  }
  if (line === '') throw new CliError('usage', 'usage', 'standard input is empty')
  return line
}

/** Asks for a yes or no; without a terminal, says which option answers instead. */
export async function confirm(context: Context, question: { message: string; option: string }): Promise<boolean> {
  requireTerminal(context, question.option)
  const prompts = await import('@clack/prompts')
  const answer = await prompts.confirm({ message: question.message })
  if (typeof answer === 'symbol') throw stopped()
  return answer
}

/** Whether there is a person to ask. */
export function isInteractive(context: Context): boolean {
  return context.stdin.isTTY === true && context.stdout.isTTY === true && !context.json
}

function requireTerminal(context: Context, option: string): void {
  if (isInteractive(context)) return
  throw new CliError('usage', 'usage', `there is no terminal to ask on: give ${option}`)
}

/** Ctrl-C at a question. */
function stopped(): CliError {
  return new CliError('interrupted', 'interrupted', 'stopped')
}
