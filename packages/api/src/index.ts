export { ApiError, type ErrorCode, type ErrorDetail, HTTP_STATUS } from './errors.ts'
