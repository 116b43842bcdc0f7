// Package batch lets many callers share one operation. A [Batcher] collects values of different callers into one call.
// A
// [SingleFlight] gives the result of one call to all callers that ask for the same thing while it is in flight.
package batch
