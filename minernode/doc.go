// Package minernode finds the proof of work of one block at a time, on all cores.
//
// A job is a header, identified by its inner hash, and a difficulty. A call for the header that is being mined joins
// the job. A call for another header ends it, because a leader that asks for another header no longer needs the
// first. A job ends when no caller waits for it. The threads of a job try nonces until the block's hash has enough
// leading zero bits: see proofofwork.go.
package minernode
