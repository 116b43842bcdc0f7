// Package client is the Go client for users of a ChainStore cluster.
//
// [Client], [Batcher] and [AppendStream] append records, read and list them, and follow them as a stream, through any
// of the cluster's masters. They go on with the next master when one fails, and they check what they receive.
//
// The client speaks HTTP/1.1 over kept connections, bounds every answer that it reads, and never puts a token into an
// error. The error of a call is one of three kinds. It wraps [wire.ErrNoAnswer] if there was no answer, it is a
// [*wire.Error] if the answer was a problem, and it wraps [ErrAnswer] if the answer is not one of ChainStore.
//
// Keys and types with control characters are refused before anything is sent, with an error that wraps
// [wire.ErrBadRequest]. Records of older clusters may contain them: they are read, listed and streamed unchanged.
// Escape them before you print them.
//
// The public Go API of ChainStore consists of the packages chain, wire, client and verify. All other packages may
// change in any release.
package client
