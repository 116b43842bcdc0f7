// Package minernode finds the proof of work of one block at a time on its cores.
//
// A job is a header, known by its inner hash, and a difficulty. Whoever asks for the header that is being mined joins the
// job; whoever asks for another one ends it, because a leader that asks for another one no longer needs it. A job that no
// caller waits for any more stops.
package minernode
