// Package batch lets many callers share one operation. A [Batcher] handles the values of different callers together. A
// [SingleFlight] gives the result of one operation to all callers that ask for the same thing while it is in flight.
package batch
