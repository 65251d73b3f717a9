import type { JsonObject } from '@cyberun/protocol'
import type { Outcome } from '../tool.ts'
import type { Engine } from './engine.ts'
import { ComfyuiRefusal, ComfyuiSilence } from './http.ts'
import { locate } from './prompt-watch.ts'
import { explainNodeErrors, explainRefusal } from './refusals.ts'

/** So often a prompt whose answer was lost is submitted again. */
const MOST_TRIES = 3

export type Submitted =
  | { readonly kind: 'submitted'; readonly promptId: string }
  | { readonly kind: 'refused'; readonly outcome: Extract<Outcome, { kind: 'failed' }> }

/**
 * Submits a prompt once, under an id of ours. When the answer is lost the id is looked for first: an old ComfyUI would
 * run a second prompt of the same id as well. `number` is never sent: two equal ones break the queue.
 */
export async function submitPrompt(
  engine: Engine,
  graph: JsonObject,
  promptId: string,
  signal: AbortSignal,
): Promise<Submitted> {
  // Without an id everybody's socket would get the progress and previews of this run.
  const clientId = engine.socket.clientId ?? promptId
  for (let tries = 1; ; tries++) {
    try {
      const answer = await engine.http.submit({ prompt: graph, prompt_id: promptId, client_id: clientId }, signal)
      // Servers from before July 2025 choose the id.
      const id = answer.promptId ?? promptId
      const failure = explainNodeErrors(answer.nodeErrors)
      if (failure === undefined) return { kind: 'submitted', promptId: id }
      await withdraw(engine, id, signal)
      return { kind: 'refused', outcome: failure }
    } catch (error) {
      const isDuplicate = error instanceof ComfyuiRefusal && error.status === 409
      if (error instanceof ComfyuiRefusal && error.status < 500 && !isDuplicate) {
        return { kind: 'refused', outcome: explainRefusal(error) }
      }
      if (!(error instanceof ComfyuiSilence || error instanceof ComfyuiRefusal)) throw error
      if (await isThere(engine, promptId, signal)) return { kind: 'submitted', promptId }
      if (tries < MOST_TRIES) continue
      if (error instanceof ComfyuiRefusal) return { kind: 'refused', outcome: explainRefusal(error) }
      return {
        kind: 'refused',
        outcome: { kind: 'failed', code: 'comfyui_unreachable', message: `${error.message}.`, fault: 'infrastructure' },
      }
    }
  }
}

/** A prompt that would run without some of its outputs. It may have begun already. */
async function withdraw(engine: Engine, promptId: string, signal: AbortSignal): Promise<void> {
  await engine.http.dequeue(promptId, signal)
  const place = await locate(engine, promptId, signal)
  if (place.kind === 'queued' && place.position === 0) await engine.http.interrupt(promptId, signal)
}

async function isThere(engine: Engine, promptId: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await locate(engine, promptId, signal)).kind !== 'absent'
  } catch (error) {
    if (error instanceof ComfyuiSilence || error instanceof ComfyuiRefusal) return false
    throw error
  }
}
