// Package client has two halves.
//
// [Client] and [Batcher] are for users of a cluster: they append records, read, list and follow them through any of its masters, go
// on with the next master when one is dead, and check what they are given. They need nothing of the server but the types of
// package wire.
//
// [Masters] and [Workers] are the calls that the nodes make on each other. They go to one address, once: whom to ask next is
// for the caller to decide.
//
// Both halves speak HTTP/1.1 over kept connections, bound every answer that they read, and never put a token into an
// error. An error of a call is one of three kinds: it wraps [wire.ErrNoAnswer] when there was no answer, it is an [*wire.Error]
// when the answer was a problem, and it wraps [ErrAnswer] when the answer is not one that ChainStore gives.
//
// Keys and types with control characters are refused before anything is sent, with an error that wraps
// [wire.ErrBadRequest]. Records of older clusters may have such: they are read, listed and streamed as they are. Escape
// them before they are printed.
package client
