import { z } from 'zod'
import { oneLine } from './common.ts'

/** Files that runs are given. */

export const PresignBody = z.object({
  file_name: oneLine(255),
  file_size: z.int().min(0).describe('Bytes; the upload must have exactly these.'),
  content_type: z
    .string()
    .max(200)
    .regex(/^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:\s*;[\x20-\x7e]*)?$/, 'is not a media type such as image/png'),
})
export type PresignBody = z.output<typeof PresignBody>

export const PresignedUpload = z
  .object({
    file_key: z.string().describe('What a file parameter of a run is set to once the upload is done.'),
    upload_url: z.url().describe('Takes one PUT of the whole file.'),
    upload_headers: z.record(z.string(), z.string()).describe('The PUT must send them unchanged.'),
  })
  .meta({ id: 'PresignedUpload' })
export type PresignedUpload = z.output<typeof PresignedUpload>
