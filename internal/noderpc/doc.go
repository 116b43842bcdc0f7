// Package noderpc has the calls that nodes of a cluster make to each other: [Masters] and [Workers]. A call goes to one
// address, once. The caller decides which node to call next.
//
// All of these calls go through a [Transport], which uses no proxy and follows no redirect: their tokens go to the
// address of the node and nowhere else. [Witnesses] are not nodes of the cluster. Calls to them carry no token, may use
// a proxy, and have a transport of their own.
//
// A call that gets no answer returns an error that wraps [wire.ErrNoAnswer]. A problem that the node answers with is a
// [*wire.Error]. An answer that is not one of ChainStore is [exchange.ErrAnswer].
package noderpc
