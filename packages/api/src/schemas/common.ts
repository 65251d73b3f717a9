import { z } from 'zod'
import { type ErrorCode, HTTP_STATUS } from '../errors.ts'

/** Shapes that every part of the API shares. */

export const Id = z.uuid().toLowerCase()
/** ISO 8601, UTC. */
export const Time = z.iso.datetime()

/** Text a person typed and others will read in one line: no control characters, no surrounding blanks. */
export const oneLine = (maxCharacters: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(maxCharacters)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is the purpose.
    .regex(/^[^\u0000-\u001f\u007f]*$/, 'must not contain control characters')

export const PageQuery = z.object({
  current_page: z.coerce.number().int().min(1).max(1_000_000).default(1),
  per_page: z.coerce.number().int().min(1).max(100).default(20),
})
export type PageQuery = z.output<typeof PageQuery>

export const PageMeta = z
  .object({
    current_page: z.int().min(1),
    per_page: z.int().min(1),
    total_count: z.int().min(0),
  })
  .meta({ id: 'PageMeta' })

export const IdAnswer = z.object({ id: Id }).meta({ id: 'Created' })
export const SuccessAnswer = z.object({ is_success: z.literal(true) }).meta({ id: 'Success' })

const ERROR_CODES = Object.keys(HTTP_STATUS) as [ErrorCode, ...ErrorCode[]]

export const ErrorAnswer = z
  .object({
    error_message: z.string(),
    error_code: z.enum(ERROR_CODES),
    details: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .meta({ id: 'Error' })
export type ErrorAnswer = z.output<typeof ErrorAnswer>
