import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../../src/free-port.ts'
import { requireProgram } from '../../../src/programs.ts'
import { until } from '../../../src/until.ts'
import { startApplication } from '../../../src/zoo/application.ts'
import { type Application, fileOf } from '../application.ts'

/** A desktop with one terminal on it, drawn by noVNC as Debian has it. */
export const novnc: Application = {
  name: 'noVNC',
  profile: 'generic',
  programs: ['Xtigervnc', 'xterm', 'websockify'],
  async start(directory) {
    const vncPort = await freePort()
    const words = ['-SecurityTypes', 'None', '-localhost', '-rfbport', String(vncPort), '-geometry', '800x600']
    const display = await startDisplay(words)
    const xterm = spawn(requireProgram('xterm'), ['-geometry', '120x40+0+0', '-bg', '#204080', '-fg', 'white'], {
      cwd: directory,
      env: { ...process.env, HOME: directory, DISPLAY: display.name },
      stdio: 'ignore',
    })
    const port = await freePort()
    const command = [
      requireProgram('websockify'),
      '--web',
      '/usr/share/novnc',
      `127.0.0.1:${port}`,
      `127.0.0.1:${vncPort}`,
    ] as const
    const served = await startApplication({ port, cwd: directory, command })
    return {
      port,
      async [Symbol.asyncDispose]() {
        await served[Symbol.asyncDispose]()
        await stop(xterm)
        await stop(display.server)
      },
    }
  },
  steps: {
    async 'shows the desktop'({ page }) {
      await page.click('a[href="vnc.html"]')
      await page.click('#noVNC_connect_button')
      // The blue of the terminal, read off the canvas as an eye would.
      await page.waitForFunction(() => {
        const canvas = document.querySelector<HTMLCanvasElement>('#noVNC_container canvas')
        const pixel = canvas?.getContext('2d')?.getImageData(300, 300, 1, 1).data
        return pixel !== undefined && Math.abs((pixel[0] ?? 0) - 0x20) < 16 && Math.abs((pixel[2] ?? 0) - 0x80) < 16
      })
    },
    async 'takes what is typed'({ page, door, directory }) {
      await page.click('#noVNC_container canvas', { position: { x: 200, y: 200 } })
      await page.keyboard.type(`touch ${fileOf(door)}\n`, { delay: 20 })
      await until(() => existsSync(join(directory, fileOf(door))), { what: 'the file' })
    },
  },
}

/** The server chooses a display that is free and says which. */
async function startDisplay(words: readonly string[]): Promise<{ server: ChildProcess; name: string }> {
  const server = spawn(requireProgram('Xtigervnc'), ['-displayfd', '3', ...words], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  })
  const [, , , numbers] = server.stdio
  if (!numbers) throw new Error('Xtigervnc has no pipe for its display')
  const [number] = await once(numbers, 'data')
  return { server, name: `:${String(number).trim()}` }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}
