import type { ComfyuiSocket, SocketNews } from './socket.ts'

/** More than this of one prompt cannot come before the answer that names it; it is progress, and left out. */
const MOST_KEPT = 1_000

/** Keeps what the socket tells before anybody knows the prompt's id: a small prompt is over before its POST is answered. */
export class EarlyNews implements Disposable {
  readonly #news: SocketNews[] = []
  readonly #stop: () => void

  constructor(socket: ComfyuiSocket) {
    this.#stop = socket.listen((news) => {
      if (this.#news.length < MOST_KEPT) this.#news.push(news)
    })
  }

  /** Everything so far; nothing more is kept. */
  take(): readonly SocketNews[] {
    this.#stop()
    return this.#news
  }

  [Symbol.dispose](): void {
    this.#stop()
  }
}
