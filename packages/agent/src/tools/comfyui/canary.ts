import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { readEnding } from './answers.ts'
import { type ComfyuiHttp, ComfyuiRefusal, ComfyuiSilence } from './http.ts'
import type { ComfyuiTimes } from './settings.ts'

const LOOK_MS = 50

/** Needs no model and no GPU, and leaves a preview of 64 pixels, which ComfyUI wipes itself. */
const SMALLEST_GRAPH = {
  1: { class_type: 'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, color: 0 } },
  2: { class_type: 'PreviewImage', inputs: { images: ['1', 0] } },
}

/**
 * Has ComfyUI run the smallest prompt, because a server that answers is not yet one that works. Resolves with why it
 * did not, or undefined when it did. The prompt is taken back when it takes too long.
 */
export async function runCanary(
  http: Pick<ComfyuiHttp, 'submit' | 'history' | 'forget' | 'dequeue'>,
  times: Pick<ComfyuiTimes, 'canaryMs'>,
  signal: AbortSignal,
): Promise<string | undefined> {
  const promptId = randomUUID()
  const limit = AbortSignal.timeout(times.canaryMs)
  try {
    const submitted = await http.submit({ prompt: SMALLEST_GRAPH, prompt_id: promptId, client_id: promptId }, signal)
    const id = submitted.promptId ?? promptId
    for (;;) {
      // When the time is up it is looked at once more: it may be us who did not get to look.
      const isLastLook = limit.aborted
      const entry = await http.history(id, signal)
      if (entry !== undefined) {
        await http.forget(id, signal)
        const ending = readEnding(entry)
        return ending.kind === 'error' ? `The smallest prompt fails in ComfyUI: ${ending.failure.message}` : undefined
      }
      if (isLastLook) break
      await pause(LOOK_MS, undefined, { signal })
    }
    await http.dequeue(id, signal)
    return `ComfyUI answers, but did not finish the smallest prompt in ${times.canaryMs / 1000} s. Restart ComfyUI.`
  } catch (error) {
    if (error instanceof ComfyuiSilence || error instanceof ComfyuiRefusal) return `${error.message}.`
    throw error
  }
}
